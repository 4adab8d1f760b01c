"""Words that several agents read and write, in the memory model of the language: what LLVM's atomics allow, no less.

Each word is the list of what was stored to it, in order. An agent has a view: how far in each of these lists it has
come. A load may see whatever is not older than that; a message carries a view along, which an acquire load makes the
reader's own: of a release store all that its writer had seen, of a plain one what it had seen at its last release
fence. A full fence exchanges views with all others. Read-modify-writes see the last value, are acquire and release, and
carry on the view of what they replace. So loads are stale, stores pass one another and a store passes a later load
wherever nothing forbids it; what a machine does beyond that (a load that sees a store that depends on it) no compiler
and no CPU of today does. It is the model of Kang et al., A Promising Semantics, 2017, without promises.

Views are numbers, so that states are small tuples: `Views` keeps what they stand for.
"""

from __future__ import annotations

from typing import NamedTuple

Message = tuple[int, int]
"""A value, and the view that comes with it."""
Knowledge = tuple[int, int, int]
"""Three views of an agent: what it has seen, what an acquire fence would add, what plain stores carry."""


class Views:
    """All views that were met, by number; 0 is the one that knows nothing."""

    def __init__(self) -> None:
        self.known: list[dict[int, int]] = [{}]
        self._numbers: dict[tuple[tuple[int, int], ...], int] = {(): 0}
        self._joined: dict[tuple[int, int], int] = {}
        self._moved: dict[tuple[int, int, int], int] = {}

    def number(self, view: dict[int, int]) -> int:
        key = tuple(sorted((word, at) for word, at in view.items() if at))
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.known)
            self.known.append(dict(key))
        return found

    def join(self, one: int, other: int) -> int:
        if one == other or other == 0:
            return one
        if one == 0:
            return other
        key = (one, other) if one < other else (other, one)
        found = self._joined.get(key)
        if found is None:
            view = dict(self.known[one])
            for word, at in self.known[other].items():
                view[word] = max(view.get(word, 0), at)
            found = self._joined[key] = self.number(view)
        return found

    def with_word(self, view: int, word: int, at: int) -> int:
        """The view, and this word at least up to there."""
        if self.known[view].get(word, 0) >= at:
            return view
        return self.join(view, self.number({word: at}))

    def moved(self, view: int, word: int, by: int) -> int:
        """The view, once the oldest messages of a word are forgotten."""
        if word not in self.known[view]:
            return view
        key = (view, word, by)
        found = self._moved.get(key)
        if found is None:
            changed = dict(self.known[view])
            changed[word] = max(0, changed[word] - by)
            found = self._moved[key] = self.number(changed)
        return found


class State(NamedTuple):
    """Where all agents are, and all that they could see."""

    places: tuple[int, ...]
    words: tuple[tuple[Message, ...], ...]
    knowledge: tuple[Knowledge, ...]
    fenced: int  # what full fences have exchanged


class Step(NamedTuple):
    """One way in which an operation may go: what the agent is told, and what there is then."""

    result: int
    words: tuple[tuple[Message, ...], ...]
    knowledge: Knowledge
    fenced: int


EXCHANGES = {"compare_exchange", "exchange", "fetch_add"}
RELAXED = "relaxed_"
"""With this before its name a read-modify-write is neither acquire nor release: for mutations."""
ORDERED = {"load", "load_acquire", "store", "store_release", "wake", "sleep_on", *EXCHANGES} | {
    RELAXED + name for name in EXCHANGES
}
"""The operations on words. `sleep_on` waits until `wake` was called."""
FENCES = {"fence", "fence_release", "fence_acquire"}


class WeakMemory:
    """What operations may do to a state."""

    def __init__(self) -> None:
        self.views = Views()

    def steps(self, state: State, agent: int, name: str, word: int, arguments: tuple[int, ...]) -> list[Step]:
        """All ways in which an operation of an agent may go; none if it has to wait."""
        views, words, knowledge, fenced = self.views, state.words, state.knowledge[agent], state.fenced
        seen, pending, released = knowledge
        if name == "fence":
            everything = views.join(pending, fenced)
            return [Step(0, words, (everything, everything, everything), everything)]
        if name == "fence_release":
            return [Step(0, words, (seen, pending, seen), fenced)]
        if name == "fence_acquire":
            return [Step(0, words, (pending, pending, released), fenced)]
        messages = words[word]
        first = views.known[seen].get(word, 0)
        if name in ("load", "load_acquire"):
            return [
                Step(messages[at][0], words, self._read(knowledge, word, at, messages[at], name), fenced)
                for at in range(first, len(messages))
            ]
        if name in ("store", "store_release"):
            at = len(messages)
            carried = seen if name == "store_release" else released
            message = (arguments[0], views.with_word(carried, word, at))
            after = (views.with_word(seen, word, at), views.with_word(pending, word, at), released)
            return [Step(0, self._appended(words, word, message), after, fenced)]
        return self._exchange(state, agent, name, word, arguments)

    def _exchange(self, state: State, agent: int, name: str, word: int, arguments: tuple[int, ...]) -> list[Step]:
        views, words, knowledge, fenced = self.views, state.words, state.knowledge[agent], state.fenced
        messages, first = words[word], views.known[knowledge[0]].get(word, 0)
        order = "load" if name.startswith(RELAXED) else "load_acquire"
        name = name.removeprefix(RELAXED)
        last = len(messages) - 1
        found: list[Step] = []
        value = messages[last][0]
        if name == "compare_exchange":
            for at in range(first, last + 1):
                if messages[at][0] != arguments[0]:
                    told = self._read(knowledge, word, at, messages[at], order)
                    found.append(Step(messages[at][0], words, told, fenced))
            if value != arguments[0]:
                return found
            new = arguments[1]
        elif name == "exchange":
            new = arguments[0]
        elif name == "fetch_add":
            new = value + arguments[0]
        elif name == "wake":
            new = value + 1
        elif name == "sleep_on":
            if value == 0:
                return []
            new = 0
        else:
            raise NotImplementedError(name)
        seen, pending, released = self._read(knowledge, word, last, messages[last], order)
        seen, pending = (views.with_word(view, word, last + 1) for view in (seen, pending))
        carried = views.with_word(released, word, last + 1) if order == "load" else seen
        message = (new, views.join(carried, messages[last][1]))
        found.append(Step(value, self._appended(words, word, message), (seen, pending, released), fenced))
        return found

    def _read(self, knowledge: Knowledge, word: int, at: int, message: Message, name: str) -> Knowledge:
        views = self.views
        seen, pending, released = knowledge
        seen = views.with_word(seen, word, at)
        pending = views.join(views.with_word(pending, word, at), message[1])
        return (views.join(seen, message[1]) if name == "load_acquire" else seen, pending, released)

    @staticmethod
    def _appended(
        words: tuple[tuple[Message, ...], ...], word: int, message: Message
    ) -> tuple[tuple[Message, ...], ...]:
        return (*words[:word], (*words[word], message), *words[word + 1 :])

    def forgotten(self, state: State, alive: list[int]) -> State:
        """The same state without messages that nobody can see any more: two states are one if they differ in these."""
        places, words, knowledge, fenced = state
        views = self.views
        for word in range(len(words)):
            messages = words[word]
            if len(messages) == 1:
                continue
            by = min((views.known[knowledge[one][0]].get(word, 0) for one in alive), default=len(messages) - 1)
            if by == 0:
                continue
            words = (*words[:word], messages[by:], *words[word + 1 :])
            moved = views.moved
            words = tuple(
                tuple((value, moved(view, word, by)) for value, view in one) if len(one) > 1 or one[0][1] else one
                for one in words
            )
            knowledge = tuple(
                (moved(seen, word, by), moved(pending, word, by), moved(released, word, by))
                for seen, pending, released in knowledge
            )
            fenced = moved(fenced, word, by)
        return State(places, words, knowledge, fenced)
