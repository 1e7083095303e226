"""Strategies that propose candidates from the archive and learn from outcomes; they see graphs and numbers only.

This file imports nothing: `import alphanas` loads it. Import what you need from the modules of this room.
"""
