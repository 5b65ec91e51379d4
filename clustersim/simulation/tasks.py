"""Where tasks enter: each a program of requests that fork, wait for one another, share KV and cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri

from clustersim.errors import InputError
from clustersim.quality.success import Success
from clustersim.randomness import stream
from clustersim.records import ANSWERED, GAVE_UP, USEFUL, Floats
from clustersim.simulation.client import Client
from clustersim.simulation.front import Front
from clustersim.simulation.gateway import Gateway
from clustersim.simulation.task_kv import TaskKv
from clustersim.workload.generate import Requests
from clustersim.workload.tasks import Answer, Future, Program, Task
from clustersim.workload.workload import Workload

if TYPE_CHECKING:
    from clustersim.simulation.world import World


#: A closed loop whose tasks are all refused would go on for as long as it may.
_MAX_REFUSED = 10_000


class TaskSource:
    """Sends tasks, each a program of requests; the frontends of deployments delay requests, not tasks."""

    delay_s = 0.0

    def __init__(
        self,
        world: World,
        fronts: list[Front],
        index: int,
        workload: Workload,
        gateway: Gateway | None = None,
    ) -> None:
        assert workload.tasks is not None
        self.world = world
        self.front = fronts[0] if gateway is None else gateway.longest
        self.gateway = gateway
        self.index = index
        self.workload = workload
        self.settings = workload.tasks
        answering = {*(front.plan.deployment.name for front in fronts), *workload.tasks.strategy.answering()}
        self.success: list[Success | None] = []  # by deployment; None for verifiers, and where nobody knows
        for each in world.fronts:
            ability = each.plan.ability(workload) if each.plan.deployment.name in answering else None
            self.success.append(ability.success if ability else None)
        self._difficulty = stream(world.seed, workload.name, "difficulty")
        self._refused = 0
        prefills = [front.handover.prefill for front in fronts if front.handover is not None]
        self.own = [*fronts, *prefills]
        """The deployments that the workload is sent to, and those that prefill for them."""
        self.priority = [tenant.priority for tenant in workload.all_tenants]
        self.begins: dict[int, tuple[int, int]] = {}
        """Task -> the beginning of its prompt (row of the workload's table) and its LoRA adapter, where it has one."""

    def add(self, requests: Requests) -> range:
        """See `Source.add`; rows of TaskRecords."""
        count = len(requests)
        difficulty = self._draw_difficulty(requests.thinking_tokens)
        own = self.success[self.front.plan.index]
        rows = self.world.tasks.extend(
            {
                "arrival_s": requests.arrival_s,
                "difficulty": difficulty,
                "success": np.full(count, np.nan) if own is None else own.of(difficulty),
                "input_tokens": requests.input_tokens,
                "thinking_tokens": requests.thinking_tokens,
                "answer_tokens": requests.answer_tokens,
                "tenant": requests.tenant,
                "workload": np.full(count, self.index),
            }
        )
        begins = zip(requests.prefix.tolist(), requests.adapter.tolist(), strict=True)
        self.begins.update((row, each) for row, each in zip(rows, begins, strict=True) if each != (-1, -1))
        return rows

    def _draw_difficulty(self, thinking: Any) -> Floats:
        """Return quantiles of difficulty (n,), uniform, correlated in rank with the thinking tokens (n,).

        Chance ranks those that think alike, so that quantiles are uniform at lengths that are all the same, too.
        """
        rho, count = self.settings.difficulty_correlation, len(thinking)
        noise, lot = self._difficulty.standard_normal((2, count))
        rank = np.empty(count)
        rank[np.lexsort((lot, thinking))] = ndtri((np.arange(count) + 0.5) / max(1, count))
        return np.asarray(ndtr(rho * rank + np.sqrt(1 - rho * rho) * noise))

    def issue(self, row: int, now: float) -> None:
        """See `Source.issue`."""
        self.world.tasks.arrival_s[row] = now

    def begin(self, row: int, now: float) -> bool:  # noqa: ARG002 - the contract's
        """See `Source.begin`."""
        tasks = self.world.tasks
        front = self.front if self.gateway is None else self._pick(row, self.gateway)
        task = Task(
            row, tasks.input_tokens[row], tasks.thinking_tokens[row], tasks.answer_tokens[row],
            tasks.difficulty[row], self.settings.spread, f"{self.world.seed}/{self.workload.name}/{row}",
        )  # fmt: skip
        work = Work(self, task)
        program = Program(self.settings.strategy.run(task, work.client(front.plan.index)))
        program.then(work.ended)
        program.start()
        return tasks.status[row] == 0

    def _pick(self, row: int, gateway: Gateway) -> Front:
        """Return the deployment that a task goes to, and write down its chance there."""
        branch = gateway.pick(row)
        tasks, success = self.world.tasks, self.success[branch.front.plan.index]
        tasks.success[row] = np.nan if success is None else success.of(np.array([tasks.difficulty[row]]))[0]
        tokens = gateway.tokens(row)
        branch.expect(1, tokens)
        self.world.after(branch.front.delay_s, lambda _event: branch.expect(-1, -tokens))
        return branch.front

    def served(self, work: Work) -> None:
        """Count a task that is over; stop a closed loop that does nothing but ask and be refused."""
        self._refused = 0 if work.admitted or work.wait_s else self._refused + 1
        if self._refused == _MAX_REFUSED and self.workload.closed_loop is not None:
            raise InputError(
                f'workload "{self.workload.name}": {_MAX_REFUSED} tasks in a row are longer than the '
                f"{self.front.longest:,} tokens that a replica of {self.front.plan.deployment.name} can hold"
            )


class Work:
    """One task in progress: its clients and its KV.

    admitted: whether any of its requests came to a replica. wait_s: how long its user waits if all were turned away.
    """

    __slots__ = ("_clients", "admitted", "kv", "source", "task", "wait_s")

    def __init__(self, source: TaskSource, task: Task) -> None:
        self.source = source
        self.task = task
        self.kv = TaskKv(source, task.prompt, *source.begins.pop(task.index, (-1, -1)))
        self.admitted = False
        self.wait_s = 0.0
        self._clients: dict[int, Client] = {}

    def client(self, deployment: int) -> Client:
        """Return the client of a deployment."""
        if deployment not in self._clients:
            self._clients[deployment] = Client(self, self.source.world.fronts[deployment])
        return self._clients[deployment]

    def ended(self, program: Future[Answer]) -> None:
        """The program returned: write down the answer and let go of everything."""
        answer = program.value
        assert answer is not None
        world, row = self.source.world, self.task.index
        tasks, now = world.tasks, world.env.now
        tasks.finish_s[row] = now
        tasks.status[row] = ANSWERED if answer.given else GAVE_UP
        if answer.given:
            tasks.first_output_s[row] = answer.first_s
            for call in answer.calls:
                world.records.role[call.request] = USEFUL
        if answer.correct is not None:
            tasks.correct[row] = float(answer.correct)
        self.kv.drop_all(now)
        self.source.served(self)
        world.left(self.source.index, now, 0.0 if self.admitted else self.wait_s)
