"""Tasks at work: programs of requests that fork, wait for one another, share KV and cancel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri
from simpy import Event

from clustersim.errors import InputError
from clustersim.quality.success import Success
from clustersim.randomness import stream
from clustersim.records import ANSWERED, CANCELLED, CANDIDATE, GAVE_UP, USEFUL, Floats
from clustersim.serving.kv_cache import Prefix
from clustersim.serving.replica import Replica
from clustersim.serving.sharing import held
from clustersim.simulation.front import Front
from clustersim.simulation.gateway import Gateway
from clustersim.workload.generate import Requests
from clustersim.workload.tasks import Answer, Call, Context, Future, Program, Task
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
    """One task in progress: its clients, and the KV that it holds for later.

    admitted: whether any of its requests came to a replica. wait_s: how long its user waits if all were turned away.
    prefixes: with the replica that has each. beginning: of its prompt, a row of `beginnings`, the workload's table.
    adapter: LoRA adapter, on the workload's own deployments.
    """

    __slots__ = (
        "_clients", "adapter", "admitted", "beginning", "beginnings", "prefixes", "source", "task", "wait_s",
    )  # fmt: skip

    def __init__(self, source: TaskSource, task: Task) -> None:
        self.source = source
        self.task = task
        self.admitted = False
        self.wait_s = 0.0
        self.prefixes: list[tuple[Replica, Prefix]] = []
        self.beginning, self.adapter = source.begins.pop(task.index, (-1, -1))
        self.beginnings = source.world.beginnings.get(source.index) if self.beginning >= 0 else None
        self._clients: dict[int, Client] = {}

    def client(self, deployment: int) -> Client:
        """Return the client of a deployment."""
        if deployment not in self._clients:
            self._clients[deployment] = Client(self, self.source.world.fronts[deployment])
        return self._clients[deployment]

    def prefix(self, context: Context, front: Front, index: int) -> Prefix | None:
        """Return the shared prefix of a context on a replica, made where there is none; None for less than a block."""
        replica = front.replicas[index]
        known = context.nodes.get(replica.index)
        if known is None:
            below = self._below(context, front, index)
            size = replica.kv.block_size
            tokens = (context.tokens - 1) // size * size
            if tokens <= (below.tokens if below else 0):
                return below
            known = Prefix(below, context, tokens)
            self.hold(context, replica, known)
        assert isinstance(known, Prefix)
        return known

    def _below(self, context: Context, front: Front, index: int) -> Prefix | None:
        """Return what a context's prefix rests on: the context it extends, or how others' prompts begin."""
        if context.parent is not None:
            return self.prefix(context.parent, front, index)
        if self.beginnings is None or context is not self.task.prompt:
            return None
        replica = front.replicas[index]
        return self.beginnings.prefix(
            self.beginning, self.adapter_on(front), context.tokens, replica.index, replica.kv.block_size
        )

    def adapter_on(self, front: Front) -> int:
        """Return the LoRA adapter that requests to a deployment ask for: -1 but on the workload's own ones."""
        return self.adapter if front in self.source.own else -1

    def hold(self, context: Context, replica: Replica, prefix: Prefix) -> None:
        """Note that a context has its KV on a replica, to be dropped with the task."""
        context.nodes[replica.index] = prefix
        self.prefixes.append((replica, prefix))

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
        for replica, prefix in reversed(self.prefixes):
            replica.drop(prefix, now)
        self.source.served(self)
        world.left(self.source.index, now, 0.0 if self.admitted else self.wait_s)


class Client:
    """A deployment, as the program of one task sees it; see workload.tasks.Llm."""

    __slots__ = ("_keep", "front", "success_of", "work", "world")

    def __init__(self, work: Work, front: Front, *, keep: bool = False) -> None:
        self.work = work
        self.front = front
        self.world = front.world
        self.success_of = work.source.success[front.plan.index]
        self._keep = keep

    @property
    def now(self) -> float:
        """Simulated time in seconds."""
        return float(self.world.env.now)

    def on(self, deployment: str | None) -> Client:
        """Return the client of another deployment, keeping if this one does; of this one for None."""
        if deployment is None:
            return self
        other = self.work.client(self.world.deployments[deployment])
        return other.keeping() if self._keep else other

    def keeping(self) -> Client:
        """Return this client, keeping the KV of every call."""
        return Client(self.work, self.front, keep=True)

    def success(self, quantile: float, effort: float) -> float:
        """Return the chance of a right answer; nan where no benchmark is given."""
        return float("nan") if self.success_of is None else self.success_of.at(quantile, effort)

    def sleep(self, seconds: float) -> Future[None]:
        """Return what is resolved in so many seconds."""
        future: Future[None] = Future()

        def wake(_event: Event) -> None:
            if not future.done:
                future.resolve(None)

        self.world.after(seconds, wake)
        return future

    def room(self, context: Context) -> int:
        """Return the tokens that a request may still make after this context."""
        return max(0, self.front.longest - context.tokens)

    def drop(self, context: Context) -> None:
        """Nothing goes on from this context any more: free its KV."""
        for replica, prefix in context.nodes.items():
            assert isinstance(prefix, Prefix)
            index = replica - self.front.first_replica
            if 0 <= index < len(self.front.replicas):
                self.front.replicas[index].drop(prefix, self.world.env.now)

    def generate(
        self, context: Context, thinking: int, answer: int, *, keep: bool = False, role: int = CANDIDATE
    ) -> Call:
        """Send a request of these tokens; `keep` its KV for requests that go on from it."""
        front, work = self.front, self.work
        records = front.records
        after = Context(context.tokens + thinking + answer, context)
        call = Call(self, thinking + answer, context, after, keep or self._keep)
        call.request = row = records.add()
        task = work.task.index
        records.arrival_s[row] = self.world.env.now
        records.input_tokens[row] = context.tokens
        records.thinking_tokens[row] = thinking
        records.answer_tokens[row] = answer
        records.deployment[row] = front.plan.index
        records.workload[row] = work.source.index
        records.tenant[row] = tenant = self.world.tasks.tenant[task]
        records.priority[row] = work.source.priority[tenant]
        records.adapter[row] = work.adapter_on(front)
        records.task[row] = task
        records.role[row] = role
        front.send(call)
        return call

    def cancel(self, call: Call) -> None:
        """Take a call off its replica; one that has not come through the frontend never will."""
        if self.world.calls.pop(call.request, None) is not None:
            self.front.cancel(call.request, self.world.env.now)

    def enter(self, call: Call, now: float) -> None:
        """Bring a call that came through the frontend to a replica."""
        front, row = self.front, call.request
        records = front.records
        if call.done:
            records.status[row] = CANCELLED
            records.finish_s[row] = now
            records.thinking_tokens[row] = records.answer_tokens[row] = 0
            return
        self.world.calls[row] = call
        if not front.admits(row, now):
            del self.world.calls[row]
            self.work.wait_s = front.wait_after(row)
            self.refused(call, now)
            return
        self.work.admitted = True
        front.route(row, now)

    def refused(self, call: Call, now: float) -> None:
        """Tell the program that a call will have no answer."""
        call.ok = False
        call.finish_s = now
        call.resolve(call)

    def rest(self, call: Call, front: Front, index: int) -> None:
        """Name what a call rests on at a replica of a deployment, and what it leaves there."""
        if not front.plan.deployment.prefix_caching:
            return
        replica = front.replicas[index]
        prefix = self.work.prefix(call.context, front, index)
        if prefix is not None:
            replica.sharing.wants[call.request] = prefix
        if call.keep and replica.on_prefilled is not None:
            if prefix is not None:  # what it makes is made elsewhere
                call.after.nodes[replica.index] = prefix
        elif call.keep:
            left = Prefix(prefix, call.after)
            left.tokens = max(prefix.tokens if prefix else 0, call.after.tokens - 1) // replica.kv.block_size
            left.tokens *= replica.kv.block_size
            replica.sharing.keeps[call.request] = left
            self.work.hold(call.after, replica, left)

    def cached(self, call: Call, front: Front, index: int) -> int:
        """Return the tokens of a call's context that are in a replica's cache."""
        at: Context | None = call.context
        work = self.work
        number = front.first_replica + index
        while at is not None:
            node = at.nodes.get(number)
            if node is not None:
                assert isinstance(node, Prefix)
                return held(node)
            if at is work.task.prompt and work.beginnings is not None:
                return work.beginnings.cached(work.beginning, work.adapter_on(front), at.tokens, number)
            at = at.parent
        return 0

    def holders(self, call: Call) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (most tokens, replicas that may have as many of a call's context in their caches), the most first."""
        at: Context | None = call.context
        work = self.work
        while at is not None:
            yield at.tokens, list(at.nodes)
            if at is work.task.prompt and work.beginnings is not None:
                yield from work.beginnings.holders(work.beginning, work.adapter_on(self.front), at.tokens)
            at = at.parent

    def home(self, call: Call, front: Front) -> int | None:
        """Return the replica of a deployment that is up where a call's context, or what it extends, has KV.

        None for a free choice.
        """
        first, count = front.first_replica, len(front.replicas)
        spread = self.work.source.settings.forks == "spread"
        at: Context | None = call.context
        while at is not None:
            if at.nodes and not (spread and at is self.work.task.prompt):
                for replica in at.nodes:
                    if first <= replica < first + count and front.loads[replica - first].up:
                        return replica - first
            at = at.parent
        return None
