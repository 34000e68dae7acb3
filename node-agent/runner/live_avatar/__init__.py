"""The `live-avatar` runner: drives an unmodified checkout of Live Avatar for the node agent.

See `session.py` for the conversation with the agent, `model.py` for what is done to the model, and `hooks.py` for the
places where upstream's `generate()` is listened to.
"""

VERSION = "1.0.0"
