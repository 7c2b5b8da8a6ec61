"""A saga's graph as a picture, drawn on the server: where it stands, how it is laid out, and the SVG.

Rules of this package
- Pure: a graph and a history in, plain values and text out. A version whose code is gone is drawn like any other.
- The picture and its list twin are made from the same marks, so neither can say more than the other.
- Classes and presentation attributes only: a content security policy without inline styles stays whole.
"""
