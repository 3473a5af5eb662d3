"""xlt: a laboratory for cross-lingual transfer."""

from xlt.system.surroundings import have_home, print_anywhere

print_anywhere()
have_home()
