"""The page on agents of other libraries, with these libraries and scripted models.

Its fences have no language that the tests of the documents execute: who lacks the libraries can
test all the rest.
"""

import asyncio
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-other-agents.md"


def names_of(*titles: str, **given: Any) -> dict[str, Any]:
    """What the fences of some sections of the page define, one after the other."""
    sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    names: dict[str, Any] = {"__name__": "page", **given}
    for title in titles:
        (section,) = (one for one in sections if one.startswith(f"{title}\n"))
        for code in re.findall(r"^```py\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
            exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102
    return names


class Script:
    """What a scripted model has been asked, and the cities that were looked up."""

    def __init__(self) -> None:
        self.asked = 0
        self.looked: list[str] = []

    def ask(self, has_looked: bool) -> str:
        """Call the tool, then break down, then answer."""
        self.asked += 1
        if self.asked == 2:
            raise ConnectionError("the line went dead")
        return "answer" if has_looked else "tool"

    def service(self, city: str) -> int:
        """The service behind the tool."""
        self.looked.append(city)
        return 700_000


def resumed(page: dict[str, Any], agent: Any, script: Script) -> tuple[Any, list[Any]]:
    """The answer of a run that breaks down and is resumed, and what was emitted."""
    flow: Flow[Any] = page["flow"]
    emitted: list[Any] = []
    flow.subscribe(lambda event, store: emitted.append(getattr(event, "value", None)))
    given = {page["agents"]: agent}
    with pytest.raises(ConnectionError):
        flow.run({"question": "How many people live in Oslo?"}, resources=given, run_id="one")
    store = flow.resume("one", resources=given)
    flow.database.close()
    assert script.asked == 3
    assert script.looked == ["Oslo"]
    return store["answer"], [one for one in emitted if one is not None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The databases of the page are written somewhere else."""
    monkeypatch.chdir(tmp_path)


def test_an_agent_of_pydantic_ai_pays_for_no_call_twice() -> None:
    """Its requests and tools are on record, its text is streamed as it comes."""
    ai = pytest.importorskip("pydantic_ai")
    function = importlib.import_module("pydantic_ai.models.function")
    script = Script()

    async def say(messages: Any, info: Any) -> Any:
        if script.ask(len(messages) > 1) == "tool":
            yield {0: function.DeltaToolCall("population", '{"city": "Oslo"}', tool_call_id="1")}
        else:
            yield "Oslo has "
            yield "700,000 inhabitants."

    titles = ("pydantic-ai", "Tools", "A limit for the spending")
    page = names_of(*titles, service=script.service)
    model = page["Journaled"](function.FunctionModel(stream_function=say))
    agent = ai.Agent(model, tools=[page["population"]])
    answer, emitted = resumed(page, agent, script)
    assert answer == "Oslo has 700,000 inhabitants."
    assert emitted == ["Oslo has ", "700,000 inhabitants."]


def scripted_model(agents: Any, script: Script) -> Any:
    """A model of OpenAI Agents that says what the script has."""
    responses = importlib.import_module("openai.types.responses")

    class Scripted(agents.Model):  # type: ignore[misc]
        async def get_response(self, system: Any, said: Any, *given: Any, **more: Any) -> Any:
            if script.ask(isinstance(said, list) and len(said) > 1) == "tool":
                made = responses.ResponseFunctionToolCall(
                    type="function_call",
                    name="population",
                    arguments='{"city": "Oslo"}',
                    call_id="1",
                )
            else:
                text = responses.ResponseOutputText(
                    type="output_text", text="Oslo has 700,000 inhabitants.", annotations=[]
                )
                made = responses.ResponseOutputMessage(
                    id="1", type="message", role="assistant", status="completed", content=[text]
                )
            usage = agents.Usage(total_tokens=10)
            return agents.ModelResponse(output=[made], usage=usage, response_id=None)

        def stream_response(self, *given: Any, **more: Any) -> Any:
            raise NotImplementedError

    return Scripted()


def test_an_agent_of_openai_agents_pays_for_no_call_twice() -> None:
    """Its requests and tools are on record, each answer is emitted."""
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    script = Script()
    titles = ("OpenAI Agents", "Tools", "A limit for the spending")
    page = names_of(*titles, service=script.service)
    model = page["Journaled"](scripted_model(agents, script), "scripted")
    tools = [agents.function_tool(page["population"])]
    agent = agents.Agent(name="geographer", model=model, tools=tools)
    answer, emitted = resumed(page, agent, script)
    assert answer == "Oslo has 700,000 inhabitants."
    assert len(emitted) == 3  # the first answer comes from the record the second time


def test_an_agent_stops_where_its_budget_is_spent() -> None:
    """Where the next request would be beyond the budget, the run goes where its flow says."""
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    script = Script()
    script.asked = 10
    page = names_of("OpenAI Agents", "Tools", service=script.service)
    limit = PAGE.read_text("utf-8").partition("## A limit for the spending")[2]
    code = limit.partition("```py\n")[2].partition("```")[0].replace("10_000", "10")
    exec(compile(code, str(PAGE), "exec"), page)  # noqa: S102
    model = page["Journaled"](scripted_model(agents, script), "scripted")
    agent = agents.Agent(
        name="geographer", model=model, tools=[agents.function_tool(page["population"])]
    )
    store = page["flow"].run({"question": "?"}, resources={page["agents"]: agent})
    page["flow"].database.close()
    assert store["answer"] == "There is no budget left."
    assert script.asked == 11


def test_the_calls_of_an_mcp_client_are_on_record() -> None:
    """A run whose tool broke down asks the server again for that one alone."""
    pytest.importorskip("mcp")
    servers = importlib.import_module("mcp.server")
    server = servers.MCPServer("cities")
    looked: list[str] = []

    @server.tool()  # type: ignore[untyped-decorator]
    def population(city: str) -> int:
        looked.append(city)
        if looked in (["Oslo", "Bergen"], ["Oslo", "Bergen", "Bergen"]):
            raise ConnectionError("the line went dead")
        return 700_000

    page = names_of("A client of MCP servers", server=server)
    flow = page["flow"]
    with pytest.raises(RuntimeError, match="population"):
        flow.run({"names": ["Oslo", "Bergen"]}, run_id="one")
    assert asyncio.run(flow.resume_async("one"))["answer"] == [700_000, 700_000]
    flow.database.close()
    assert looked == ["Oslo", "Bergen", "Bergen", "Bergen"]
