"""Read models: what was decided, where every saga stands, what was pending when, how well the service does.

Everything here is derived from the records of the store and can be thrown away and built again.
"""
