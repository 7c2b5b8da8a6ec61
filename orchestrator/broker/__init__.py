"""The pipe between coordinator, participants and the outside: one contract, two implementations.

``contract`` is the port, ``kafka`` the real thing, ``postgres`` the log in tables that a laptop starts with. Nobody but
``open_broker`` names an implementation; all else is written against ``contract``.
"""
