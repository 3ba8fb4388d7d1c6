"""The frozen graph of a flow, how it is drawn, and its fingerprint."""
