"""The frozen graph of a flow, its drawings, and its fingerprint."""
