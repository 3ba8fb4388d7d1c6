"""A plain script: ``python script.py`` runs the flow and prints what came of it."""

from tests.integration.hosts.reading import TEXT, flow

if __name__ == "__main__":
    print(flow.run({"text": TEXT}).state.card)
