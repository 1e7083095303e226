"""Tests read and write no cache of the user's, and can be interrupted wherever they were started."""

import os
import signal
import threading

os.environ["ALPHANAS_CACHE"] = "off"
# A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
