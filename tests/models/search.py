"""Every execution of a few agents that run the real functions, in the memory of `weak_memory.py`.

Agents are generators, see `playing.py`: they give way at each operation and are told what came of it. Where an agent is
follows from what it was told, so a state is small and is visited once. Words that one agent alone touches, or that
nobody writes, are its own affair, and found out on the way. A store to a word that nobody else writes is taken at once:
later loads of others may be stale all the same, so nothing is left out. Everything else is tried in every order.

An agent that may die does so before or after each of its operations, private ones too; whoever finds it dead goes on in
its place, knowing all that it has done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from weak_memory import FENCES, ORDERED, RELAXED, State, WeakMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    Program = Callable[[], Generator[Any, Any, Any]]

TOLD = {"ticks": 0, "this_cpu": -1, "spin_hint": 0, "nap": 0, "waits_for_cpu": 0, "is_runnable": 0, "leave_cpu": 0}
"""What operations that are not about words say."""
WRITES = ORDERED - {"load", "load_acquire"}
PLAIN = {"store", "store_release"}
TOO_MANY = 400_000
LONGEST = 5_000


def step(name: str, *arguments: int) -> Generator[Any, Any, Any]:
    """What an operation is in the functions that are played."""
    return (yield (name, *arguments))


class Violation(AssertionError):  # noqa: N818 (what it is)
    """Something that must hold does not; `path` is how one comes there."""

    def __init__(self, what: str, path: list[str]) -> None:
        super().__init__(what)
        self.path = path


class TooMany(Exception):  # noqa: N818 (likewise)
    """More states than were to be visited: nothing is known."""


class End(NamedTuple):
    """An execution that is over: what words are then, what agents have returned, and who waits for ever."""

    word: Callable[[int], int]
    results: dict[str, Any]
    waiting: set[str]


class System(NamedTuple):
    """Agents over words that begin as these. `check` looks at each end; `recovers` is who goes on for an agent that may
    die, by its name."""

    name: str
    words: Mapping[int, int]
    agents: dict[str, Program]
    check: Callable[[End], None]
    recovers: dict[str, Program] = {}  # noqa: RUF012 (never changed)


class _Again(Exception):  # noqa: N818 (likewise)
    """A word was found to be shared, or to have several writers: begin anew, knowing that."""


class _Place:
    """Where an agent is: what it asks for next, or what it has returned."""

    __slots__ = ("asks", "children", "deaths", "fault", "live", "looked", "number", "own", "result", "start", "told")

    def __init__(self, number: int, start: tuple[int, Program, dict[int, int]], told: tuple[int, ...]) -> None:
        self.number, self.start, self.told = number, start, told
        self.asks: tuple[str, int, tuple[int, ...]] | None = None
        self.result: Any = None
        self.fault: str | None = None
        self.live: Any = None
        self.own: dict[int, int] = {}
        self.looked: dict[int, int] = {}  # values of words that were loaded since it has polled
        self.children: dict[int, _Place] = {}
        self.deaths: list[_Place] = []


class Search:
    """All executions of a system."""

    def __init__(self, system: System, like: Any = None) -> None:
        """`like`: a search of a system with the same words, which has found out which of them are shared."""
        self.system, self.names = system, list(system.agents)
        self.shared: dict[int, int] = {} if like is None else dict(like.shared)  # addresses, by number
        self.writers: dict[int, set[int]] = (
            {} if like is None else {word: set(agents) for word, agents in like.writers.items()}
        )
        self.users: dict[int, set[int]] = (
            {} if like is None else {word: set(agents) for word, agents in like.users.items()}
        )
        self.n_states = self.n_ends = 0
        self.most = TOO_MANY

    def run(self) -> int:
        """Visit all states. Return how many there are; raise `Violation` where something does not hold."""
        while True:
            try:
                self._run()
            except _Again:
                continue
            return self.n_states

    # --- agents --------------------------------------------------------------------------------------------------

    def _place(self, start: tuple[int, Program, dict[int, int]], told: tuple[int, ...]) -> _Place:
        place = _Place(len(self.places), start, told)
        self.places.append(place)
        return place

    def _root(self, agent: int, program: Program, own: dict[int, int]) -> _Place:
        place = self._place((agent, program, dict(own)), ())
        place.live, place.own = program(), dict(own)
        self._go(place, None)
        return place

    def _child(self, place: _Place, told: int) -> _Place:
        """Where an agent is once it was told so."""
        found = place.children.get(told)
        if found is not None:
            return found
        child = place.children[told] = self._place(place.start, (*place.told, told))
        if len(child.told) > LONGEST:
            child.fault = f"{self.names[place.start[0]]} never comes to an end"
            return child
        if place.live is not None:
            child.live, child.own, place.live = place.live, place.own, None
        else:  # somebody else has gone on with it: play it again from its start
            _, program, own = place.start
            again = self._play(program, own, place.told)
            child.live, child.own = again
        name = place.asks[0] if place.asks else ""
        if name in ("load", "load_acquire") and place.asks is not None:
            child.looked = {**place.looked, self.shared[place.asks[1]]: told}
        elif name != "poll":
            child.looked = place.looked
        self._go(child, told)
        return child

    def _play(self, program: Program, own: dict[int, int], told: tuple[int, ...]) -> tuple[Any, dict[int, int]]:
        live, mine = program(), dict(own)
        for value in (None, *told):
            request = live.send(value)
            while not self._is_asked(request):
                request = live.send(self._own(mine, request))
        return live, mine

    def _is_asked(self, request: tuple[Any, ...]) -> bool:
        name = request[0]
        return name in FENCES or name in ("sleep_on", "poll") or (name in ORDERED and request[1] in self.shared)

    def _own(self, own: dict[int, int], request: tuple[Any, ...]) -> int:
        """An operation on what nobody else changes."""
        name, *arguments = request
        name = name.removeprefix(RELAXED)
        if name in TOLD:
            return TOLD[name]
        address = arguments[0]
        seen = own.get(address)
        if seen is None:
            seen = self.system.words.get(address, 0)
        if name in ("load", "load_acquire"):
            return seen
        if name in PLAIN:
            own[address] = arguments[1]
            return 0
        if name == "compare_exchange":
            if seen == arguments[1]:
                own[address] = arguments[2]
        elif name == "exchange":
            own[address] = arguments[1]
        elif name == "fetch_add":
            own[address] = seen + arguments[1]
        elif name == "wake":
            own[address] = seen + 1
        else:
            raise NotImplementedError(name)
        return seen

    def _note(self, agent: int, request: tuple[Any, ...]) -> None:
        """Who touches which word."""
        name = request[0]
        if name in TOLD or name in FENCES or name == "poll":
            return
        address = request[1]
        users = self.users.setdefault(address, set())
        writers = self.writers.setdefault(address, set())
        if agent in users and (name not in WRITES or agent in writers):
            return
        had_one = len(writers) <= 1
        users.add(agent)
        if name in WRITES:
            writers.add(agent)
        if name == "sleep_on" or (len(users) > 1 and writers):
            if address not in self.shared:
                self.shared[address] = len(self.shared)
                self.is_stale = True
            elif had_one and len(writers) > 1:
                self.is_stale = True

    def _go(self, place: _Place, value: Any) -> None:
        """Let an agent go on by itself as far as it can."""
        agent, live, own = place.start[0], place.live, place.own
        recover = self.recovers.get(agent) if place.start[1] is not self.recovers.get(agent) else None
        if recover is not None:
            self._may_die(place, agent, recover, own)
        try:
            while True:
                request = live.send(value)
                self._note(agent, request)
                if self._is_asked(request):
                    name = request[0]
                    address = request[1] if name not in FENCES and name != "poll" else 0
                    place.asks = (name, address, tuple(request[2:]))
                    return
                value = self._own(own, request)
                if recover is not None and request[0] in WRITES:
                    self._may_die(place, agent, recover, own)
        except StopIteration as end:
            place.result, place.live = end.value, None
        except Exception as fault:
            if isinstance(fault, _Again):
                raise
            place.fault, place.live = f"{self.names[agent]}: {fault}", None

    def _may_die(self, place: _Place, agent: int, recover: Program, own: dict[int, int]) -> None:
        key = (agent, tuple(sorted(own.items())))
        found = self.dead.get(key)
        if found is None:
            found = self.dead[key] = self._root(agent, recover, own)
        if found not in place.deaths[-1:]:
            place.deaths.append(found)

    # --- states --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.memory, self.places = WeakMemory(), list[_Place]()
        self.dead: dict[tuple[int, tuple[tuple[int, int], ...]], _Place] = {}
        self.recovers = {self.names.index(name): program for name, program in self.system.recovers.items()}
        self.is_stale, self.n_states, self.n_ends = False, 0, 0
        roots = [self._root(i, program, {}) for i, program in enumerate(self.system.agents.values())]
        begin = self.system.words
        words = tuple(((begin.get(address, 0), 0),) for address in self.shared)
        first = State(tuple(root.number for root in roots), words, ((0, 0, 0),) * len(roots), 0)
        seen: set[int] = set()
        stack: list[tuple[str, Any]] = [("begin", iter([("", first)]))]
        since_stale = 0
        while stack:
            if self.is_stale:
                since_stale += 1
                if since_stale > 300:
                    raise _Again
            label_and_state = next(stack[-1][1], None)
            if label_and_state is None:
                stack.pop()
                continue
            label, state = label_and_state
            if state is None:
                if self.is_stale:
                    raise _Again
                raise Violation(label, [one for one, _ in stack])
            eager = self._eager(state)
            if eager is None:
                key = hash(state)
                if key in seen:
                    continue
                seen.add(key)
            self.n_states += 1
            if self.n_states > self.most:
                raise TooMany(self.n_states)
            stack.append((label, iter(self._next(state, eager))))
        if self.is_stale:
            raise _Again

    def _eager(self, state: State) -> int | None:
        """An agent whose next operation no other one could hinder, or see too early."""
        for agent, number in enumerate(state.places):
            asks = self.places[number].asks
            if asks is not None and (
                asks[0] in ("fence_release", "fence_acquire") or (asks[0] in PLAIN and len(self.writers[asks[1]]) == 1)
            ):
                return agent
        return None

    def _next(self, state: State, eager: int | None) -> list[tuple[str, State | None]]:
        """All states that follow. A label without a state is something that does not hold."""
        found: list[tuple[str, State | None]] = []
        agents = range(len(state.places)) if eager is None else [eager]
        moved = False
        for agent in agents:
            place = self.places[state.places[agent]]
            for dead in place.deaths:
                pending = state.knowledge[agent][1]
                self._follow(found, state, agent, dead, (pending, pending, 0), f"{self.names[agent]} dies")
            if place.asks is None:
                continue
            name, address, arguments = place.asks
            if name == "poll":
                moved |= self._poll(found, state, agent, place)
                continue
            word = self.shared.get(address, 0)
            if name not in FENCES and word >= len(state.words):
                raise _Again
            for told in self.memory.steps(state, agent, name, word, arguments):
                moved = True
                child = self._child(place, told.result)
                after = state._replace(words=told.words, fenced=told.fenced)
                text = f"{self.names[agent]}: {name} {self.label(address)} {arguments or ''} -> {told.result}"
                self._follow(found, after, agent, child, told.knowledge, text)
        if not moved:
            self._end(state, found)
        return found

    def _poll(self, found: list[tuple[str, State | None]], state: State, agent: int, place: _Place) -> bool:
        """Who polls goes on when there is something new where it has looked, and sees that."""
        seen, pending, released = state.knowledge[agent]
        view, moved = self.memory.views.known[seen], False
        for word, value in place.looked.items():
            messages, first = state.words[word], view.get(word, 0)
            at = next((at for at in range(first, len(messages)) if messages[at][0] != value), None)
            if at is not None:
                moved = True
                newer, after = (self.memory.views.with_word(one, word, at) for one in (seen, pending))
                self._follow(found, state, agent, self._child(place, 0), (newer, after, released), "it polls")
        return moved

    def _follow(
        self, found: list[tuple[str, State | None]], state: State, agent: int, place: _Place, knowledge: Any, text: str
    ) -> None:
        if place.fault is not None:
            found.append((f"{text}; {place.fault}", None))
            return
        is_over = place.asks is None and not place.deaths
        places = (*state.places[:agent], place.number, *state.places[agent + 1 :])
        known = (0, 0, 0) if is_over else knowledge
        all_known = (*state.knowledge[:agent], known, *state.knowledge[agent + 1 :])
        there = [self.places[number] for number in places]
        alive = [i for i, one in enumerate(there) if one.asks is not None or one.deaths]
        found.append((text, self.memory.forgotten(State(places, state.words, all_known, state.fenced), alive)))

    def _end(self, state: State, found: list[tuple[str, State | None]]) -> None:
        self.n_ends += 1
        if self.is_stale:
            raise _Again
        places = [self.places[number] for number in state.places]
        waiting = {self.names[i] for i, place in enumerate(places) if place.asks is not None}
        owns: list[dict[int, int]] = [
            place.own if place.asks is None else self._play(*place.start[1:], place.told)[1] for place in places
        ]

        def word(address: int) -> int:
            number = self.shared.get(address)
            if number is not None:
                return state.words[number][-1][0]
            for own in owns:
                if address in own:
                    return own[address]
            return self.system.words.get(address, 0)

        try:
            self.system.check(End(word, {self.names[i]: place.result for i, place in enumerate(places)}, waiting))
        except AssertionError as fault:
            found.append((str(fault) or "what must hold in the end does not", None))

    def label(self, address: int) -> str:
        return f"{address:#x}"
