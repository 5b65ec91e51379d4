"""A deployment, as the program of one task sees it: it generates, cancels, forgets and waits there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simpy import Event

from clustersim.records import CANCELLED, CANDIDATE
from clustersim.simulation.removal import cancel
from clustersim.workload.tasks import Call, Context, Future

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.tasks import Work


class Client:
    """See workload.tasks.Llm."""

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
        self.work.kv.drop(context, self.front, self.world.env.now)

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
        records.adapter[row] = work.kv.adapter_on(front)
        records.task[row] = task
        records.role[row] = role
        front.inbox.send(call)
        return call

    def cancel(self, call: Call) -> None:
        """Take a call off its replica; one that has not come through the frontend never will."""
        if self.world.calls.pop(call.request, None) is not None:
            cancel(self.front, call.request, self.world.env.now)

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


def client_of(call: Call) -> Client:
    """Return the client that a task's call was made by."""
    return call.llm  # type: ignore[return-value]  # a task's calls are made by clients
