"""The rivals, each in a process of its own: `python -m comparison.workers.NAME JOB`, with JOB a JSON object.

`serve.py` is the conversation they all have with the parent.
"""
