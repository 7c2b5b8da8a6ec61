"""The back office: server-rendered pages for approvers, operators and auditors, under `/office`.

Rules of this package
- A page shows committed facts with their age; the engine and the read models have them, no SQL of sagas stands here.
- Everything works without JavaScript; what scripts add is speed and comfort, never an ability.
- No template writes a style, a script or an `on...` attribute of its own: the content security policy forbids them.
"""
