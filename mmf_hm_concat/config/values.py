"""The config as the checks of combinations read it, and what they give."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mmf_hm_concat.config.check import datasets_of, lookup

# Names that a config may use, by kind: "trainer", "optimizer", "scheduler", "loss", "metric" and
# "processor" of MMF's registry, "fusion", "text encoder" and "image encoder" of ours.
Registered = Mapping[str, Mapping[str, Any]]
# Key and problem, one after the other.
Found = Iterator[tuple[str, str]]


class Skip(Exception):
    """A key that a check needs is itself wrong."""


class RunConfig:
    """The values that the checks below read; a wrong one skips the check."""

    def __init__(self, config: Mapping[str, Any], problems: Collection[str]):
        self._config, self._problems = config, problems
        self.datasets = datasets_of(config)
        self.is_ours = config.get("model") == "concat_vl"
        self.has_our_data = "hm_competition" in self.datasets

    def __getitem__(self, key: str) -> Any:
        if any(key == wrong or wrong.startswith(f"{key}.") for wrong in self._problems):
            raise Skip
        return lookup(self._config, key)

    @property
    def predicts(self) -> bool:
        return bool(self["evaluation.predict"])

    @property
    def trains(self) -> bool:
        return "train" in self["run_type"] and not self.predicts

    @property
    def metrics(self) -> list[Any]:
        metrics = self["evaluation.metrics"]
        return [metrics] if isinstance(metrics, str) else metrics


Check = Callable[[RunConfig, Registered], Found]
