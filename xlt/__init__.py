"""xlt: training, evaluation and studies of cross-lingual transfer."""

from xlt.system.surroundings import have_home, print_anywhere

__version__ = "0.1.0"

print_anywhere()
have_home()
