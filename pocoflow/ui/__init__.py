"""The monitor: Streamlit widgets in, library calls, output. ``pocoflow.ui.monitor`` is its door.

Only ``acting``, ``blocks``, ``inspector``, ``monitor``, ``panel``, ``questions``, ``runlist`` and
``runview`` know Streamlit; the other modules are plain functions over a database that is opened
read-only.
"""
