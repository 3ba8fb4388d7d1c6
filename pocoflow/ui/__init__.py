"""The monitor: Streamlit widgets in, library calls, output; it starts in ``pocoflow.ui.monitor``.

Only ``acting``, ``monitor``, ``panel``, ``questions``, ``runlist`` and ``runview`` (and
``__main__``) depend on Streamlit; the other modules are plain functions over a database that is
opened read-only.
"""
