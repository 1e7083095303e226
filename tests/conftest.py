"""Tests read and write no cache of the user's."""

import os

os.environ["ALPHANAS_CACHE"] = "off"
