"""W&B's side of a sweep: it chooses parameters, and is told which trials are at work.

Two calls of its agents' protocol, createAgent and agentHeartbeat, spoken from the login node. An agent has one trial at
a time, so there is one for each that may be in the queue.
"""

from __future__ import annotations

import base64
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from avc.extras import require_package
from launch.slurm.sweep import Trial

HEARTBEAT_SECONDS = 5.0  # W&B's own agents'
ANSWER_SECONDS = 60.0
CREATE = """mutation CreateAgent($host: String!, $projectName: String, $entityName: String, $sweep: String!) {
  createAgent(input: {host: $host, projectName: $projectName, entityName: $entityName, sweep: $sweep}) {
    agent { id } } }"""
BEAT = """mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
  agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) { agent { id } commands } }"""


class WandbAgents:
    """Where parameters come from: a W&B sweep, as entity/project/id. `launch.slurm.sweep.Source`.

    Raises ValueError for another name, and where W&B does not answer or has no such sweep.
    """

    done = False

    def __init__(self, sweep: str, *, parallel: int) -> None:
        require_package("wandb", extra="wandb", purpose="a sweep on W&B")
        import wandb

        parts = sweep.split("/")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"--wandb is {sweep!r} and must be ENTITY/PROJECT/ID, as `wandb sweep` prints it")
        self.entity, self.project, self.id = parts
        self._url = f"{str(wandb.setup().settings.base_url).rstrip('/')}/graphql"
        key = wandb.api.api_key
        if not key:
            raise ValueError("W&B has no key of yours: run `wandb login`, or set WANDB_API_KEY")
        self._authorization = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
        of = {"host": socket.gethostname(), "entityName": self.entity, "projectName": self.project, "sweep": self.id}
        try:
            self._trials: dict[str, str | None] = {
                self._call(CREATE, of)["createAgent"]["agent"]["id"]: None for _ in range(parallel)
            }
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"W&B does not take an agent for the sweep {sweep}: {error}") from None
        self._asked = self._beaten = -HEARTBEAT_SECONDS

    def next(self, number: int) -> tuple[dict[str, Any], str | None] | None:
        """A trial for an agent that has none, should W&B have one now."""
        free = next((agent for agent, trial in self._trials.items() if trial is None), None)
        if free is None or time.monotonic() - self._asked < HEARTBEAT_SECONDS:
            return None
        for command in self._beat(free):
            if command.get("type") in ("run", "resume"):
                self._trials[free] = str(command["run_id"])
                return {name: given["value"] for name, given in command["args"].items()}, self._trials[free]
            self.done = self.done or command.get("type") == "exit"
        self._asked = time.monotonic()
        return None

    def alive(self, trials: Sequence[Trial]) -> list[Trial]:
        """Tell W&B which trials are at work; those of them that it wants to stop."""
        active = {trial.wandb_id: trial for trial in trials}
        for agent, trial in self._trials.items():
            self._trials[agent] = trial if trial in active else None
        for trial in set(active) - set(self._trials.values()):  # of an earlier call of the same command
            free = next((agent for agent, other in self._trials.items() if other is None), None)
            if free is not None:
                self._trials[free] = trial
        if time.monotonic() - self._beaten < HEARTBEAT_SECONDS:
            return []
        self._beaten = time.monotonic()
        commands = [one for agent, trial in self._trials.items() if trial is not None for one in self._beat(agent)]
        return [active[one["run_id"]] for one in commands if one.get("type") == "stop" and one.get("run_id") in active]

    def _beat(self, agent: str) -> list[dict[str, Any]]:
        trial = self._trials[agent]
        state = json.dumps({} if trial is None else {trial: True})
        try:
            answer = self._call(BEAT, {"id": agent, "metrics": "{}", "runState": state})
            commands = json.loads(answer["agentHeartbeat"]["commands"])
        except (OSError, KeyError, TypeError, ValueError):  # it may answer the next time
            return []
        return [one for one in commands if isinstance(one, dict)]

    def _call(self, query: str, variables: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._url,
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json", "Authorization": self._authorization},
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            content = json.load(answer)
        if content.get("errors"):
            raise ValueError("; ".join(str(one.get("message")) for one in content["errors"]))
        return content["data"]
