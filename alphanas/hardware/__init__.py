"""Lowering to TVM, measuring, other back ends for comparison. Nothing here imports TVM before a function that needs it runs."""
