"""The sagas of this installation: one package per business area, with its definition, participants, routes and SQL."""
