"""What tests of several rooms use; no test imports another test."""

from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]  # the checkout
