"""Handlers that are wrong, in the ways that Python knows: what a handler does (`FRAGMENTS`, and names without a value,
which are put together from parts), and where it does it (`CONTEXTS`).

A fragment gives `r` a number. What is before a line `handler:` is outside of the handler. One that begins with `ok` is
right, and must not be refused; one that begins with `listed` differs as docs/differences.md says.
"""

from __future__ import annotations

import itertools
import textwrap

FRAGMENTS = """
# iterates while the list grows
l = [1.0, 2.0]
r = 0.0
for v in l:
    r += v
    if len(l) < 6:
        l.append(v + 1.0)
# iterates while the list shrinks
l = [1.0, 2.0, 3.0, 4.0, 5.0]
r = 0.0
for v in l:
    r += v
    l.pop()
# pops the front while it iterates
l = [1.0, 2.0, 3.0, 4.0]
r = 0.0
for v in l:
    r = r * 10 + v
    l.pop(0)
# clears the list while it iterates
l = [1.0, 2.0, 3.0]
r = 0.0
for v in l:
    r += v
    l.clear()
# listed a dict grows while it is iterated
d = {1: 2.0}
r = 0.0
for k in d:
    r += k
    d[k + msg.n + 10] = 1.0
# listed a dict shrinks while it is iterated
d = {1: 2.0, 2: 3.0, 3: 4.0}
r = 0.0
for k in d:
    r += k
    d.pop(3 if msg.b else 2)
# a dict's values change while it is iterated
d = {1: 2.0, 2: 3.0}
r = 0.0
for k in d:
    d[k] = d[k] * 2
    r += d[k]
# listed a set grows while it is iterated
d = {1, 2}
r = 0.0
for k in d:
    r += k
    if len(d) < 40:
        d.add(k + 7)
# listed a set shrinks while it is iterated
d = {1, 2, 3}
r = 0.0
for k in d:
    r += k
    d.discard(3)
# a set in a dict's place
d = {1, 2, 3}
d.add(msg.n)
d.discard(2)
r = len(d) * 10.0 + (1.0 if msg.n in d else 0.0)
# removes what is not in a set
d = {1, 2}
d.remove(msg.n)
r = len(d) * 1.0
# pops an empty set
d = {1}
r = d.pop() * 1.0
if msg.b:
    r = d.pop() * 1.0
# an array changes while it is iterated
a = msg.xs.copy()
r = 0.0
for v in a:
    r += v
    a[3] = 100.0
# a range's end changes
n = 3
r = 0.0
for i in range(n):
    n = 10
    r += i
# the loop's variable is assigned
r = 0.0
for i in range(4):
    i = i * 2
    r += i
r = r * 10 + i
# an iterator that is exhausted
it = iter([1.0, 2.0])
r = next(it) + next(it)
if msg.b:
    r += next(it)
# an exhausted iterator with a default
it = iter([1.0])
r = next(it, 5.0) + next(it, 7.0)
# an iterator that is used twice
it = iter([1.0, 2.0, 3.0])
r = 0.0
for v in it:
    r += v
for v in it:
    r += v * 100
# an iterator that is left and gone on with
it = iter([1.0, 2.0, 3.0])
r = 0.0
for v in it:
    r += v
    break
for v in it:
    r += v * 100
# a zip that is used twice
z = zip([1.0, 2.0], [3.0, 4.0])
r = 0.0
for a, b in z:
    r += a * b
for a, b in z:
    r += a * b
# an enumerate that is used twice
z = enumerate([1.0, 2.0])
r = 0.0
for i, a in z:
    r += a + i
for i, a in z:
    r += (a + i) * 10
# a map that is used twice
z = map(abs, [1.0, -2.0])
r = sum(z) + sum(z) * 100
# a filter that is used twice
z = filter(bool, [1.0, 0.0, 2.0])
r = 0.0
for v in z:
    r += v
for v in z:
    r += v * 10
# a reversed that is used twice
z = reversed([1.0, 2.0])
r = 0.0
for v in z:
    r = r * 10 + v
for v in z:
    r = r * 10 + v
# a range that is used twice
z = range(3)
r = 0.0
for v in z:
    r += v
for v in z:
    r += v * 10
# zips what is not of one length
r = 0.0
for a, b in zip([1.0, 2.0, 3.0], [10.0, 20.0]):
    r += a * b
# zips an iterator with itself
it = iter([1.0, 2.0, 3.0, 4.0])
r = 0.0
for a, b in zip(it, it):
    r += a * b
# two names of one list
a = [1.0]
b = a
b.append(2.0)
r = len(a) * 1.0
# two names of one array
a = msg.xs.copy()
b = a
b += 1.0
r = a[0] - msg.xs[0]
# a new array under an old name
a = msg.xs.copy()
b = a
b = b + 1.0
r = a[0] - msg.xs[0]
# a slice is a view
a = np.arange(4.0)
b = a[1:]
b[0] = 9.0
r = a[1]
# a slice of a list is a copy
a = [1.0, 2.0, 3.0]
b = a[1:]
b[0] = 9.0
r = a[1]
# rows of one list
a = [[0.0]] * 2
a[0].append(1.0)
r = len(a[1]) * 1.0
# a list in a list
a = [1.0]
b = [a, a]
b[0].append(2.0)
r = len(b[1]) * 10.0 + len(a)
# a list in a tuple
a = [1.0]
b = (a, 1)
b[0].append(2.0)
r = len(a) * 1.0
# a list in a dict
a = [1.0]
d = {1: a}
d[1].append(2.0)
r = len(a) * 1.0
# a list is added to in place
a = [1.0]
b = a
b += [2.0]
r = len(a) * 1.0
# a list is added to anew
a = [1.0]
b = a
b = b + [2.0]
r = len(a) * 1.0
# a chain of assignments
a = b = [1.0]
a.append(2.0)
r = len(b) * 1.0
# two names of one dict
a = {1: 1.0}
b = a
b[2] = 2.0
r = len(a) * 1.0
# a copied list
a = [1.0]
b = a.copy()
b.append(1.0)
r = len(a) * 1.0
# a helper changes its list
def grow(l):
    l.append(1.0)
handler:
a = [1.0]
grow(a)
r = len(a) * 1.0
# a helper changes its array
def fill(a):
    a[:] = 7.0
handler:
a = np.zeros(3)
fill(a)
r = a.sum()
# a helper assigns to its parameter
def lose(a, n):
    n = n + 1
    a = [9.0]
    return n
handler:
a = [1.0]
n = 1
lose(a, n)
r = a[0] + n
# a mutable default
def remember(v, l=[0.0]):
    l.append(v)
    return len(l) * 1.0
handler:
r = remember(msg.x)
r = remember(msg.x)
# a default array
def remember(v, a=np.zeros(2)):
    a[0] += v
    return a[0]
handler:
r = remember(1.0)
r = remember(1.0)
# a default that is a number
def with_default(v, by=3.0):
    return v * by
handler:
r = with_default(2.0) + with_default(2.0, 4.0) + with_default(2.0, by=5.0)
# a keyword that is not there
def with_default(v, by=3.0):
    return v * by
handler:
r = with_default(2.0, bye=4.0)
# an argument too many
def with_default(v):
    return v * 2
handler:
r = with_default(2.0, 4.0)
# a helper that calls itself
def down(n):
    return n if n <= 0 else down(n - 1)
handler:
r = down(msg.n) * 1.0
# a helper that calls itself for ever
def down(n):
    return down(n + 1)
handler:
r = down(msg.n) * 1.0
# helpers that call each other
def even(n):
    return 1.0 if n <= 0 else odd(n - 1)
def odd(n):
    return 0.0 if n <= 0 else even(n - 1)
handler:
r = even(msg.n)
# a closure that calls itself
def down(n):
    return n if n <= 0 else down(n - 1)
r = down(msg.n) * 1.0
# a lambda that calls itself
down = lambda n: n if n <= 0 else down(n - 1)
r = down(msg.n) * 1.0
# a helper that is passed to itself
def apply(f, n):
    return n if n <= 0 else f(f, n - 1)
handler:
r = apply(apply, msg.n) * 1.0
# a builtin is shadowed by a number
max = 3.0
r = max * 2
# a builtin is shadowed and called
len = msg.n
r = len(msg.xs) * 1.0
# a builtin is shadowed later
r = sum([1.0, 2.0])
sum = 3.0
r += sum
# a builtin is shadowed by another
max = min
r = max(1.0, 2.0)
# a builtin is shadowed by a function
def abs(v):
    return 7.0
r = abs(msg.x)
# a builtin is shadowed outside
def abs(v):
    return 7.0
handler:
r = abs(msg.x)
# range is shadowed outside
def range(n):
    return [5.0, 6.0]
handler:
r = 0.0
for v in range(3):
    r += v
# range is shadowed by one that gives nothing
def range(n):
    return (0,)[:0]
handler:
for v in range(3):
    r = 1.0
r = r + 1.0
# the message's name is assigned
msg = msg.x
r = msg * 1.0
# the message's name is assigned on one way
if msg.b:
    msg = 3.0
r = msg * 1.0
# a module's name is assigned
np = 3.0
r = np * 2
# a comprehension's name is that of a variable
i = 7
l = [i * 2 for i in range(3)]
r = i * 10.0 + len(l)
# a comprehension's name after it
l = [i * 2 for i in range(3)]
r = i * 1.0
# a comprehension in a comprehension
l = [[i * j for j in range(i)] for i in range(4)]
r = sum([sum(one) for one in l if len(one) > 0]) * 1.0
# a comprehension with a condition
l = [v for v in msg.xs if v > 1.0]
r = len(l) * 10.0 + sum(l)
# a dict comprehension
d = {i: i * 2.0 for i in range(4)}
r = d[3] + len(d)
# a set comprehension
d = {i % 2 for i in range(4)}
r = len(d) * 1.0
# a generator expression
r = sum(v for v in [1.0, 2.0])
# a walrus in a comprehension
l = [y := i for i in range(3)]
r = y + len(l) * 1.0
# a walrus in a condition
if (y := msg.n) > 1:
    r = y * 10.0
else:
    r = y * 1.0
# a global is assigned
LEVEL = 1.0
handler:
global LEVEL
LEVEL = msg.x
r = LEVEL
# a global's name is local
LEVEL = 1.0
handler:
r = LEVEL
LEVEL = 2.0
# a global list is changed
KEPT = [1.0]
handler:
KEPT.append(msg.x)
r = len(KEPT) * 1.0
# a global array is changed
KEPT = np.zeros(2)
handler:
KEPT[0] += 1.0
r = KEPT[0]
# a global dict
KEPT = {1: 2.0}
handler:
r = KEPT[1]
# a global tuple
KEPT = (1.0, 2.0)
handler:
r = KEPT[msg.n]
# ok a name changes from int to float
y = 1
if msg.b:
    y = 2.5
r = y * 2.0
# a name changes from int to float, divided
y = 7
if msg.b:
    y = 7.5
r = y // 2 * 1.0
# a name changes from int to text
y = 1
if msg.b:
    y = 'a'
r = 1.0
# a name changes its type in sequence
y = 1
r = y * 1.0
y = 'abc'
r += len(y)
# a name changes its type in a loop
y = 1
r = 0.0
for i in range(3):
    r += y
    y = y / 2
# a name is a list, then a number
y = [1.0]
if msg.b:
    y = 2.0
r = 1.0
# a list of two types
l = [1, 2.5]
r = l[0] / 2 + l[1]
# a list of numbers and text
l = [1, 'a']
r = l[0] * 1.0
# a dict of two types
d = {1: 2.0, 'a': 3.0}
r = d[1]
# an empty list
l = []
r = len(l) * 1.0
# an empty list that is filled
l = []
l.append(msg.x)
r = len(l) * 1.0
# an empty dict
d = {}
r = len(d) * 1.0
# an empty dict that is filled
d = {}
d[1] = msg.n
r = len(d) * 1.0
# bool and int
y = True
if msg.b:
    y = 3
r = y * 1.0
# None and a number
y = None
if msg.b:
    y = 2.0
r = y * 1.0
# None and a number, looked at
y = None
if msg.b:
    y = 2.0
r = -1.0 if y is None else y * 1.0
# None and a list
y = None
if msg.b:
    y = [1.0]
r = y[0]
# None is indexed
y = None
r = y[0]
# None is added to
y = None
r = y + 1.0
# the result of what returns nothing
def nothing(v):
    v + 1
handler:
r = nothing(msg.x) * 1.0
# a helper that returns on one way only
def maybe(v):
    if v > 0:
        return v
handler:
r = maybe(msg.x) * 1.0
# a helper that returns on one way only, looked at
def maybe(v):
    if v > 0:
        return v
handler:
y = maybe(msg.x)
r = -1.0 if y is None else y * 1.0
# a method that returns nothing
l = [2.0, 1.0]
l = l.sort()
r = l[0]
# sorts in place
l = [2.0, 1.0, msg.x]
l.sort()
r = l[0] if msg.x == msg.x else 0.0
# sorted
l = sorted([2.0, 1.0, 3.0])
r = l[0] * 10 + l[2]
# a list's index
l = [1.0, 2.0, 3.0]
r = l[msg.n]
# a list's element is assigned
l = [1.0, 2.0, 3.0]
l[msg.n] = 9.0
r = l[0] * 100 + l[1] * 10 + l[2]
# a list's element at a huge index
l = [1.0, 2.0, 3.0]
r = l[msg.big]
# a list's element is assigned at a huge index
l = [1.0, 2.0, 3.0]
l[msg.big] = 3.0
r = l[0]
# a list's slice
l = [1.0, 2.0, 3.0]
r = sum(l[msg.n:]) + 10 * len(l[:msg.n]) + 100 * len(l[::2])
# a list's slice with a step
l = [1.0, 2.0, 3.0, 4.0]
r = len(l[::msg.n]) * 1.0
# a list's slice with huge ends
l = [1.0, 2.0, 3.0]
r = len(l[msg.big:]) * 10.0 + len(l[:msg.big])
# a list's slice is assigned
l = [1.0, 2.0, 3.0]
l[msg.n:] = [7.0, 8.0, 9.0, 10.0]
r = len(l) * 100.0 + l[len(l) - 1]
# a list's slice with a step is assigned
l = [1.0, 2.0, 3.0, 4.0]
l[::2] = [7.0, 8.0, 9.0]
r = l[0]
# a list's slice is deleted
l = [1.0, 2.0, 3.0]
del l[msg.n:]
r = len(l) * 1.0
# a list's element is deleted
l = [1.0, 2.0, 3.0]
del l[msg.n]
r = len(l) * 1.0
# pops at an index
l = [1.0, 2.0, 3.0]
r = l.pop(msg.n) * 10 + len(l)
# pops at a huge index
l = [1.0, 2.0, 3.0]
r = l.pop(msg.big)
# pops more than there is
l = [1.0]
r = l.pop()
if msg.b:
    r += l.pop()
# inserts at an index
l = [1.0, 2.0, 3.0]
l.insert(msg.n, 9.0)
r = l[0] * 1000 + l[1] * 100 + l[2] * 10 + l[3]
# inserts at a huge index
l = [1.0, 2.0]
l.insert(msg.big, 9.0)
r = l[0] * 100 + l[1] * 10 + l[2]
# removes what is not there
l = [1.0, 2.0, 3.0]
l.remove(msg.x)
r = len(l) * 1.0
# the index of what is not there
l = [1.0, 1.5, 3.0]
r = l.index(msg.x) * 1.0
# extends itself
l = [1.0, 2.0]
l.extend(l)
r = len(l) * 1.0
# reverses
l = [1.0, 2.0, 3.0]
l.reverse()
r = l[0]
# counts
l = [1.0, 2.0, 1.0]
r = l.count(1.0) * 1.0
# a list is compared
l = [1.0, 2.0]
r = (1.0 if l == [1.0, 2.0] else 0.0) + (10.0 if l < [1.0, 3.0] else 0.0)
# a list is in a list
r = 1.0 if msg.x in [1.5, 2.0] else 0.0
# a list is true
l = [1.0]
if msg.b:
    l.pop()
r = 1.0 if l else 0.0
# a list is the same
l = [1.0]
m = [1.0]
r = 1.0 if l is m else 0.0
# an array is true
r = 1.0 if msg.xs else 0.0
# an array of one is true
a = np.ones(1) * msg.n
r = 1.0 if a else 0.0
# arrays are compared where a truth is wanted
r = 0.0
if msg.xs == msg.xs:
    r = 1.0
# an array and a not
r = 1.0 if not msg.xs else 0.0
# an array and an and
r = 1.0 if (msg.xs > 0) and (msg.xs < 10) else 0.0
# a number is in an array
r = 1.0 if msg.x in msg.xs else 0.0
# an array is chained
r = 1.0 if 0 < msg.xs < 5 else 0.0
# a tuple's index
t = (1.0, 2.0, 3.0)
r = t[msg.n]
# a tuple of two types
t = (1.0, 'a')
r = t[0] + len(t[1])
# a tuple of two types at an index
t = (1.0, 2)
r = t[msg.n] * 1.0
# a tuple is assigned to
t = (1.0, 2.0)
t[0] = 3.0
r = t[0]
# tuples are added and compared
t = (1.0, 2.0) + (3.0,)
r = len(t) * 1.0 + (10.0 if t > (1.0, 1.0, 9.0) else 0.0)
# a tuple is unpacked wrongly
t = (1.0, 2.0, 3.0)
a, b = t
r = a + b
# a list is unpacked wrongly
l = [1.0, 2.0]
if msg.b:
    l.append(3.0)
a, b = l
r = a + b
# an array is unpacked wrongly
a, b = msg.xs
r = a + b
# an array is unpacked
a, b, c, d = msg.xs
r = a + b + c + d
# unpacks with a star
a, *b = (1.0, 2.0, 3.0)
r = a + len(b)
# a swap
a = 1.0
b = 2.0
a, b = b, a
r = a * 10 + b
# a swap in an array
a = np.arange(4.0)
a[0], a[1] = a[1], a[0]
r = a[0] * 10 + a[1]
# a swap of rows
a = np.arange(4.0).reshape(2, 2)
a[0], a[1] = a[1], a[0]
r = a[0, 0] * 10 + a[1, 0]
# an array's index
r = msg.xs[msg.n]
# an array's huge index
r = msg.xs[msg.big]
# an array's element is assigned
a = np.zeros(3)
a[msg.n] = 1.0
r = a[0] * 100 + a[1] * 10 + a[2]
# an array's element is assigned at a huge index
a = np.zeros(3)
a[msg.big] = 1.0
r = a.sum()
# an array's slice of another length is assigned
a = np.zeros(4)
a[msg.n:] = msg.xs[1:]
r = a.sum()
# an array of another length is added
a = np.zeros(3)
r = (a + msg.xs[:msg.n]).sum()
# an array of another length is added in place
a = np.zeros(4)
a += msg.xs[msg.n:]
r = a.sum()
# an array overlaps itself
a = np.arange(4.0)
a[1:] = a[:-1]
r = a[1] * 100 + a[2] * 10 + a[3]
# an array overlaps itself in an expression
a = np.arange(5.0)
a[1:] = a[:-1] * 2 + 1
r = a[4]
# listed an array overlaps itself in place
a = np.arange(5.0)
a[1:] += a[:-1]
r = a[4]
# an output argument of another shape
a = np.zeros(2)
np.add(msg.xs, 1.0, a)
r = a.sum()
# an input that is too short for the output argument
a = np.zeros(4)
np.add(msg.xs[:msg.n], msg.xs, a)
r = a.sum()
# an array is added in place along its rows
a = np.zeros((3, 4))
a += msg.xs
a *= msg.xs[:1]
r = a.sum()
# an array is added to itself in place
a = np.arange(4.0)
a += a
r = a.sum()
# two dimensions at one index
a = np.arange(6.0).reshape(2, 3)
r = a[msg.n, 1] + a[0, msg.n]
# too many indices
a = np.zeros(3)
r = a[0, 0]
# the least of nothing
r = msg.xs[4:].min()
# the index of the least of nothing
r = msg.xs[4:].argmin() * 1.0
# the mean of nothing
r = msg.xs[4:].mean()
# the greatest of an empty list
l = [1.0]
if msg.b:
    l.pop()
r = max(l)
# the greatest of two lists
r = max([1.0, 2.0])
# any and all
r = (1.0 if np.any(msg.xs > 2.0) else 0.0) + (10.0 if np.all(msg.xs > 2.0) else 0.0)
# a huge array
a = np.zeros(msg.big)
r = a.size * 1.0
# an array of a negative length
a = np.zeros(msg.n)
r = a.size * 1.0
# a huge constant array
a = np.zeros(1 << 60)
r = a.size * 1.0
# a huge array of two dimensions
a = np.empty((msg.big, msg.big))
r = a.size * 1.0
# a huge list
l = [0.0] * (1 << 40)
r = len(l) * 1.0
# a huge arange
a = np.arange(msg.big)
r = a.size * 1.0
# a list times a number
l = [1.0, 2.0] * msg.n
r = len(l) * 1.0
# a text times a number
t = 'ab' * msg.n
r = len(t) * 1.0
# an array of small integers takes a large one
a = np.zeros(2, np.int8)
a[0] = 300
r = a[0] * 1.0
# an array of small integers takes a message's
a = np.zeros(2, np.int8)
a[0] = msg.big
r = a[0] * 1.0
# an array of integers takes a float
a = np.zeros(2, np.int64)
a[0] = 1.7
r = a[0] * 1.0
# an array of integers adds a float
a = np.zeros(2, np.int64)
a += 1.5
r = a[0] * 1.0
# an element of integers adds a float
a = np.zeros(2, np.int64)
a[0] += 1.5
r = a[0] * 1.0
# a product that overflows
r = float(msg.big * msg.big)
# a sum that overflows
r = float(msg.big + msg.big)
# a negative that overflows
r = float(-msg.big - 1)
# a shift by too much
r = float(1 << (msg.n & 63))
# an integer is divided by zero
r = float(msg.n // (msg.n - msg.n))
# a remainder by zero
r = float(msg.n % (msg.n - msg.n))
# a float is divided by zero
r = msg.x / (msg.n - msg.n)
# the lowest by -1
r = float(msg.big // -1)
# listed the root of a negative
r = math.sqrt(msg.x)
# listed the logarithm of nothing
r = math.log(msg.x)
# listed the exponential of much
r = math.exp(msg.x * 1e6)
# a power
r = float(msg.x ** 2)
# a negative power of an integer
r = float(2 ** -2)
# a comparison that is chained
r = 1.0 if 0 <= msg.n < 3 else 0.0
# a NaN is compared
y = msg.x * 0.0 / 0.0 if msg.b else msg.x
r = (1.0 if y == y else 0.0) + (10.0 if y is y else 0.0)
# a number is a number
r = 1.0 if msg.n is 3 else 0.0
# or of numbers
r = (msg.x or 5.0) * 1.0
# and of numbers
r = (msg.x and 5.0) * 1.0
# raises
if msg.b:
    raise ValueError('no')
r = 1.0
# raises with a value
if msg.b:
    raise ValueError(msg.n)
r = 1.0
# raises what it has no name for
if msg.b:
    raise Exception
r = 1.0
# raises what is no exception
if msg.b:
    raise 3
r = 1.0
# raises an own class
class Own(Exception):
    pass
handler:
if msg.b:
    raise Own('no')
r = 1.0
# asserts
assert not msg.b, 'no'
r = 1.0
# catches
try:
    if msg.b:
        raise ValueError('no')
    r = 1.0
except Exception:
    r = 2.0
# catches an index
l = [1.0, 2.0]
try:
    r = l[msg.n]
except Exception:
    r = -1.0
# catches an index of an array
try:
    r = msg.xs[msg.big]
except Exception:
    r = -1.0
# catches a key
d = {1: 2.0}
try:
    r = d[msg.n]
except Exception:
    r = -1.0
# catches, and else
try:
    y = [1.0, 2.0][msg.n]
except Exception:
    r = -1.0
else:
    r = y + 10
# catches, and finally
r = 0.0
try:
    r = [1.0, 2.0][msg.n]
except Exception:
    r = -1.0
finally:
    r += 100.0
# finally alone
l = [0.0]
try:
    r = [1.0, 2.0][msg.n]
finally:
    l[0] = 1.0
# catches in a loop
r = 0.0
for i in range(4):
    try:
        r += [1.0, 2.0][i]
    except Exception:
        r += 100.0
        continue
# leaves a try by break
r = 0.0
for i in range(4):
    try:
        if i == msg.n:
            break
        r += 1.0
    except Exception:
        r = -1.0
# catches and raises again
try:
    r = [1.0, 2.0][msg.n]
except Exception:
    raise
# catches and raises another
try:
    r = [1.0, 2.0][msg.n]
except Exception:
    raise ValueError('other')
# catches by its name
try:
    r = [1.0, 2.0][msg.n]
except Exception as error:
    r = -1.0
# catches an IndexError
try:
    r = [1.0, 2.0][msg.n]
except IndexError:
    r = -1.0
# a name of a try is read after it
try:
    y = [1.0, 2.0][msg.n]
except Exception:
    pass
r = y
# a state of before in except
y = 1.0
try:
    y = 2.0
    y = [1.0, 7.0][msg.n]
except Exception:
    y += 10.0
r = y
# a try in a try
try:
    try:
        r = [1.0, 2.0][msg.n]
    except Exception:
        r = [5.0][msg.n]
except Exception:
    r = -1.0
# a helper raises
def fail(v):
    if v > 1:
        raise ValueError('v')
    return v * 1.0
handler:
try:
    r = fail(msg.n)
except Exception:
    r = -5.0
# a helper raises, uncaught
def fail(v):
    if v > 1:
        raise KeyError('v')
    return v * 1.0
handler:
r = fail(msg.n)
# a dict without the key
d = {1: 2.0, 2: 3.0}
r = d[msg.n]
# a dict with a default
d = {1: 2.0, 2: 3.0}
r = d.get(msg.n, -1.0)
# a dict without a default
d = {1: 2.0, 2: 3.0}
r = d.get(msg.n) * 1.0
# a dict's pop
d = {1: 2.0, 2: 3.0}
r = d.pop(msg.n) + len(d)
# a dict's setdefault
d = {1: 2.0}
r = d.setdefault(msg.n, 7.0) + len(d)
# a dict's key is deleted
d = {1: 2.0, 2: 3.0}
del d[msg.n]
r = len(d) * 1.0
# a dict's order
d = {3: 1.0, 1: 2.0}
d[2] = 3.0
d[3] = 4.0
r = 0.0
for k in d:
    r = r * 10 + k
# a dict's items
d = {3: 1.0, 1: 2.0}
r = 0.0
for k, v in d.items():
    r = r * 10 + k * v
# a dict is updated
d = {3: 1.0}
d.update({4: 2.0, 3: 5.0})
r = d[3] * 10 + len(d)
# a dict with float keys
d = {0.5: 1.0, 1.5: 2.0}
r = d[msg.x]
# a dict with a NaN
d = {msg.x * 0.0 / 0.0: 1.0}
r = len(d) * 1.0
# a dict with text
d = {'a': 1.0}
r = d['a' if msg.b else 'b']
# a dict with tuples
d = {(1, 2): 3.0}
r = d[(1, msg.n)]
# an unhashable key
d = {[1]: 2.0}
r = 1.0
# text at an index
t = 'abc'
r = 1.0 if t[msg.n] == 'a' else 0.0
# text at a huge index
t = 'abc'
r = 1.0 if t[msg.big] == 'a' else 0.0
# a slice of text
t = 'abcde'
r = len(t[msg.n:]) * 10.0 + (1.0 if t[1:3] == 'bc' else 0.0)
# a slice of text with a step
t = 'abcde'
r = len(t[::msg.n]) * 1.0
# text is joined
t = 'abc' + 'd' if msg.b else 'xy'
r = len(t) * 1.0
# text is added to in a loop
t = ''
for i in range(4):
    t += 'ab'
r = len(t) * 1.0 + (10.0 if 'ba' in t else 0.0)
# text and a number
r = len('a' + msg.n) * 1.0
# text of a number
r = len(str(msg.n)) * 1.0
# text of a float
r = len(str(msg.x)) * 1.0
# text of a bool
r = len(str(msg.n > 1)) * 1.0
# an f-string
r = len(f'{msg.n} and {msg.x}') * 1.0
# text as a number
r = float('1.5')
# text as an integer
r = int('12') * 1.0
# the number of a character
r = ord('a') * 1.0
# the character of a number
r = len(chr(msg.n + 65)) * 1.0
# finds in text
t = 'abcabc'
r = t.find('c') * 1.0 + t.find('x') * 10.0 + t.rfind('c') * 100.0
# the index of what is not in text
r = 'abc'.index('x') * 1.0
# counts in text
r = 'abcabca'.count('a') * 1.0
# cases of text
t = 'aBc'
r = (1.0 if t.upper() == 'ABC' else 0.0) + (10.0 if t.lower() == 'abc' else 0.0)
# strips text
r = len('  ab '.strip()) * 1.0
# splits text
l = 'a,b,c'.split(',')
r = len(l) * 1.0
# joins text
r = len(','.join(['a', 'b'])) * 1.0
# replaces in text
r = len('abcabc'.replace('b', 'xx')) * 1.0
# how text begins
r = 1.0 if 'abc'.startswith('ab') else 0.0
# fills text
r = len('7'.zfill(4)) * 10.0 + len('7'.center(5))
# text is compared
r = 1.0 if 'abc' < ('abd' if msg.b else 'aba') else 0.0
# text is iterated
r = 0.0
for c in 'abca':
    if c == 'a':
        r += 1.0
# text is percent
r = len('%d' % msg.n) * 1.0
# text is formatted
r = len('{}'.format(msg.n)) * 1.0
# text is a digit
r = (1.0 if '12'.isdigit() else 0.0) + (10.0 if 'a2'.isdigit() else 0.0)
# text of other characters
t = 'äß€'
r = len(t) * 1.0 + (10.0 if t[1] == 'ß' else 0.0)
# text of other characters in capitals
r = len('ß'.upper()) * 1.0
# a message's bytes
r = (1.0 if msg.s == b'abc' else 0.0) + len(msg.s) * 10.0
# listed a message's bytes at an index
r = msg.s[msg.n] * 1.0
# a message's bytes begin
r = 1.0 if msg.s.startswith(b'a') else 0.0
# a message's bytes are a key
d = {msg.s: 1.0}
r = d[msg.s]
# a message's bytes in a condition
r = 1.0 if msg.s else 0.0
# bytes at an index
y = b'abc'
r = y[msg.n] * 1.0
# returns text
r = 'abc'
# returns a list
r = [1.0]
# returns an array
r = msg.xs
# returns None
r = None
# returns a bool
r = msg.n > 1
# returns a complex number
r = 1j * msg.x
# calls what is no function
y = 3.0
r = y(2)
# an attribute that is not there
r = msg.xs.nothing
# a field that is not there
r = msg.nothing
# a name that is not there
r = nothing_of_this_name
# a message's field is assigned
msg.x = 3.0
r = msg.x
# a message's array is assigned
msg.xs[0] = 3.0
r = msg.xs[0]
# a message's array is changed in place
a = msg.xs
a += 1.0
r = a[0]
# a message's array is sorted
msg.xs.sort()
r = msg.xs[0]
# ok a message's array is sorted as a copy
a = np.sort(msg.xs)
a[0] = 5.0
r = msg.xs[0] + a[0]
# a closure reads later
y = 1.0
def read():
    return y
y = 2.0
r = read()
# a closure reads later in a loop
y = 1.0
def read():
    return y
r = 0.0
for i in range(3):
    y = i * 1.0
    r += read()
# lambdas that are made in a loop
l = [lambda: i for i in range(3)]
r = l[0]() * 1.0
# a lambda of the loop's variable
r = 0.0
for i in range(3):
    f = lambda: i * 10
    i = 7
    r += f()
# a lambda with a default
r = 0.0
for i in range(3):
    f = lambda v=i: v * 10
    i = 7
    r += f()
# a closure assigns its own
y = 1.0
def own():
    y = 2.0
    return y
r = own() * 10 + y
# a closure assigns its own after reading
y = 1.0
def own():
    z = y
    y = 2.0
    return z
r = own()
# nonlocal
y = 1.0
def change():
    nonlocal y
    y = 2.0
change()
r = y
# a closure changes a list
l = [1.0]
def change():
    l.append(2.0)
change()
r = len(l) * 1.0
# a closure in a closure
y = msg.x
def outer():
    def inner():
        return y * 2
    return inner()
r = outer()
# a function on one way
if msg.b:
    def f():
        return 1.0
else:
    def f():
        return 2.0
r = f()
# a function that is chosen
def one(v):
    return v + 1.0
def two(v):
    return v * 2.0
handler:
f = one if msg.b else two
r = f(3.0)
# functions in a tuple
def one(v):
    return v + 1.0
def two(v):
    return v * 2.0
handler:
r = 0.0
for f in (one, two):
    r += f(3.0)
# ok a flag and a default
first = True
top = 0.0
for v in msg.xs:
    if first or v > top:
        top = v
        first = False
r = top
# ok a loop that is left
r = -1.0
for i in range(4):
    if msg.xs[i] > 1.0:
        r = i
        break
else:
    r = 100.0
# ok a loop over a constant range
for i in range(3):
    y = i * msg.x
r = y + i
# ok while True
k = 0
while True:
    y = k * 2.0
    k += 1
    if k > 3:
        break
r = y
# ok while, and else
k = 0
r = 0.0
while k < msg.n:
    k += 1
    if k == 3:
        break
else:
    r = 50.0
r += k
# ok both ways
if msg.b:
    y = 1.0
else:
    y = 2.0
r = y
# a match
match msg.n:
    case 0:
        r = 10.0
    case 1 | 2:
        r = 20.0
    case _:
        r = 30.0
# a match without a default
match msg.n:
    case 0:
        r = 10.0
    case 1:
        r = 20.0
r = r * 1.0
# a match of a tuple
match (msg.n, msg.b):
    case (0, True):
        r = 1.0
    case _:
        r = 2.0
# with
with open('x') as f:
    r = 1.0
# yields
def give():
    yield 1.0
    yield 2.0
handler:
r = 0.0
for v in give():
    r += v
# yields what may have no value
def give(n):
    if n > 1:
        y = 2.0
    yield y
handler:
r = 0.0
for v in give(msg.n):
    r += v
# a list of arrays
l = [np.zeros(2), np.ones(2)]
r = l[msg.n].sum()
# a list of tuples
l = [(1, 2.0), (3, 4.0)]
r = l[msg.n][1]
# a list of lists
l = [[1.0], [2.0, 3.0]]
r = sum(l[msg.n])
# an array is deleted and read
a = np.ones(2)
del a
r = a.sum()
# a list is deleted in a loop
l = [1.0]
r = 0.0
for i in range(2):
    r += l[0]
    del l
# a parameter is deleted
x = msg.x
del msg
r = msg.x
# a name is deleted on one way
y = 1.0
if msg.b:
    del y
r = y
# a name is deleted and bound again
y = 1.0
del y
y = 2.0
r = y
# round half to even
r = round(msg.x) * 1.0 if abs(msg.x) < 100 else 0.0
# round to digits
r = round(msg.x, 1)
# divmod
q, m = divmod(msg.n, 3)
r = q * 10.0 + m
# int of a float
r = int(msg.x) * 1.0 if abs(msg.x) < 100 else 0.0
# hash
r = 1.0 if hash(3) == hash(3.0) else 0.0
# isinstance
r = 1.0 if isinstance(msg.x, float) else 0.0
# hasattr
r = 1.0 if hasattr(msg, 'x') else 0.0
# getattr
r = getattr(msg, 'x')
# type
r = 1.0 if type(msg.n) == type(3) else 0.0
# an enumerate from
r = 0.0
for i, v in enumerate(msg.xs, msg.n):
    r += i
# a range with a step
r = 0.0
for i in range(5, msg.n, -2):
    r = r * 10 + i
# a range with a step of zero
r = 0.0
for i in range(0, 5, msg.n):
    r = r * 10 + i
    if r > 1000:
        break
# a range is indexed
r = range(5)[msg.n] * 1.0
# a range is long
r = 1.0 if msg.n in range(0, 5, 2) else 0.0
# a float range
r = 0.0
for i in range(msg.x):
    r += i
"""

BOUND = {
    "float": ("y = 1.5", ("r = y", "y += 1.0\nr = y", "r = 1.0 if y > 1 else 0.0", "l = [y for _ in range(2)]\nr = l[0]")),
    "int": ("y = 3", ("r = y * 1.0", "y -= 1\nr = y * 1.0", "r = msg.xs[y]")),
    "dict": ("y = {1: 2.0}", ("r = y[1]", "y[3] = msg.x\nr = len(y) * 1.0", "r = 1.0 if 1 in y else 0.0", "r = y.get(1, 3.0)")),
    "list": ("y = [1.0, 2.0]", ("r = y[0]", "y[1] = 3.0\nr = y[1]", "y.append(msg.x)\nr = len(y) * 1.0", "r = y.pop()", "r = 0.0\nfor v in y:\n    r += v")),
    "set": ("y = {1, 2}", ("r = len(y) * 1.0", "y.add(7)\nr = len(y) * 1.0", "r = 1.0 if 1 in y else 0.0")),
    "array": ("y = np.zeros(3)", ("r = y.sum()", "y[0] = 1.0\nr = y[0]", "y += 1.0\nr = y[1]", "r = (y * 2 + 1)[0]")),
    "tuple": ("y = (1.0, 2.0)", ("r = y[0]", "a, b = y\nr = a + b")),
    "text": ("y = 'abc'", ("r = len(y) * 1.0", "r = 1.0 if y == 'abc' else 0.0")),
    "bytes": ("y = msg.s", ("r = len(y) * 1.0",)),
    "part": ("y = msg.xs", ("r = y[0]", "r = y[msg.n]")),
    "function": ("def y(v):\n    return v * 2", ("r = y(1.0)", "f = y\nr = f(2.0)")),
    "lambda": ("y = lambda v: v + 1", ("r = y(1.0)",)),
}  # fmt: skip
"""What a name is bound to, and how it is read."""

WAYS = {
    "if": "if msg.b:\n    BIND",
    "if and else": "if msg.b:\n    BIND\nelse:\n    z = 1",
    "elif": "if msg.n > 2:\n    BIND\nelif msg.b:\n    BIND",
    "for": "for i in range(msg.n):\n    BIND",
    "for over a slice": "for v in msg.xs[msg.n:]:\n    BIND",
    "for, left": "for i in range(3):\n    if i == msg.n:\n        break\n    BIND",
    "for, else": "for i in range(3):\n    if i == msg.n:\n        break\nelse:\n    BIND",
    "while": "k = 0\nwhile k < msg.n:\n    k += 1\n    BIND",
    "while True": "k = msg.n\nwhile True:\n    k += 1\n    if k > 2:\n        break\n    BIND",
    "try": "try:\n    z = [1.0, 2.0][msg.n]\n    BIND\nexcept Exception:\n    pass",
    "except": "try:\n    z = [1.0, 2.0][msg.n]\nexcept Exception:\n    BIND",
    "match": "match msg.n:\n    case 0 | 1:\n        BIND",
    "del": "BIND\nif msg.b:\n    del y",
    "deleted": "BIND\ndel y",
    "nothing": "if msg.n > 100:\n    pass",
    "two ifs": "if msg.b:\n    BIND\nif not msg.b and msg.n > 0:\n    BIND",
    "nested": "if msg.n > 0:\n    if msg.b:\n        BIND\n    else:\n        BIND",
    "continue": "for i in range(3):\n    if i < msg.n:\n        continue\n    BIND",
    "ok always": "BIND",
    "ok both": "if msg.b:\n    BIND\nelse:\n    BIND",
    "ok constant for": "for i in range(2):\n    BIND",
    "ok while True": "while True:\n    BIND\n    if msg.n < 100:\n        break",
    "ok leaves": "if msg.n > 100:\n    raise ValueError('n')\nelse:\n    BIND",
    "again": "BIND\nif msg.b:\n    del y\n    BIND",
}
"""How it comes to be bound, or not."""

CONTEXTS = {
    "scalar": "def handler(msg, out):\n    BODY\n    out.value = r\n",
    "state": "def handler(msg, out, state):\n    state[0] += 1.0\n    BODY\n    out.value = r + state[0]\n",
    "batch": "def handler(msgs, outs):\n    for number in range(len(msgs)):\n        msg = msgs[number]\n        BODY\n"
    "        outs[number].value = r\n",
    "helper": "def helper(msg):\n    BODY\n    return r\ndef handler(msg, out):\n    out.value = helper(msg)\n",
    "njit": "@njit\ndef helper(msg):\n    BODY\n    return r\ndef handler(msg, out):\n    out.value = helper(msg)\n",
    "closure": "def handler(msg, out):\n    def inner():\n        BODY\n        return r\n    out.value = inner()\n",
    "loop": "def handler(msg, out):\n    for again in range(2):\n        BODY\n    out.value = r\n",
    "filter": "def handler(msg, out):\n    if msg.n == 1:\n        return False\n    BODY\n    out.value = r\n    return True\n",
    "end": "def handler(msg, out):\n    out.value = 0.0\ndef end(out, state):\n    msg = state\n    BODY\n    out.value = r\n",
}
"""Where it is done. `end` is the handler of the end, over a state that is like a message."""


def fragments() -> dict[str, str]:
    """All that a handler may do, by what it is called."""
    found = {}
    for block in FRAGMENTS.split("\n# ")[1:]:
        name, _, code = block.partition("\n")
        found[name] = code.strip("\n")
    for (way, binds), (kind, (bind, reads)) in itertools.product(WAYS.items(), BOUND.items()):
        for number, read in enumerate(reads):
            is_ok = way.startswith("ok") and kind not in ("function", "lambda")
            name = f"{'ok ' if is_ok else ''}y, a {kind}, bound by {way.removeprefix('ok ')}, read {number}"
            found[name] = "\n".join((_filled(binds, "BIND", bind), read))
    return found


def source_of(fragment: str, context: str) -> str:
    """The source of a handler."""
    outside, _, inside = fragment.rpartition("handler:\n")
    return outside + _filled(CONTEXTS[context], "BODY", inside)


def _filled(template: str, word: str, code: str) -> str:
    """The template with code in the place of a word that stands alone in a line, as far to the right as that."""
    lines = []
    for line in template.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(textwrap.indent(code, indent) if line.strip() == word else line)
    return "\n".join(lines) + "\n"
