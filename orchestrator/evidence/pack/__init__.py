"""The evidence pack: one saga and all that proves it, in one signed file that is checked without this product."""
