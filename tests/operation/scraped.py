"""What a scrape says, read by prometheus-client's own parsers."""

from __future__ import annotations

import aiohttp
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scrape(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Series → value."""

    def __init__(self, samples: list[Sample]) -> None:
        super().__init__({(each.name, frozenset(each.labels.items())): each.value for each in samples})
        assert len(self) == len(samples), "a series stands there twice"
        self.samples = samples

    def value(self, name: str, **labels: str) -> float:
        """Of the only series, or the sum of all, of this name that have these labels; 0 if there is none."""
        wanted = labels.items()
        return sum(each.value for each in self.samples if each.name == name and wanted <= each.labels.items())

    @property
    def names(self) -> set[str]:
        return {each.name for each in self.samples}


async def scrape(url: str, accept: str = "", headers: dict[str, str] | None = None) -> Scrape:
    """``GET /metrics`` of the gateway at this address."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{url}/metrics", headers={**({"Accept": accept} if accept else {}), **(headers or {})}) as reply,
    ):
        text = await reply.text()
        assert reply.status == 200, text
        parse = openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
        families = list(parse(text))
    assert len({family.name for family in families}) == len(families), "a family stands there twice"
    return Scrape([sample for family in families for sample in family.samples])
