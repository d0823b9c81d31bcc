"""Scripts that measure this software and its peers side by side, in one run."""
