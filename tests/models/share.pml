/* A shared span: ringkernel/ring/sharing/share.py and job.py, and ringkernel/devices/compiled/helping.py, in Promela.
 *
 * One leader runs SPANS spans one after the other with the same job, HELPERS helpers come and go, and a supervisor may
 * revoke the kernel at any time. A part, a copy of the span's record, is run by whoever has taken it; a handler may hang in
 * it for ever, or fail, and somebody may say stop. The memory of a span is the kernel's until the leader has left the span; then it is given back,
 * unless the kernel was revoked: then it is nobody's, and nobody uses it again.
 *
 * What must hold is asserted: nobody writes to memory that was given back, each part is run once, what is committed is
 * a prefix of this span's parts, whole and without a gap, up to the first failure; the leader waits for ever only for a handler that hangs.
 */

#ifndef HELPERS
#define HELPERS 2
#endif
#ifndef PARTS
#define PARTS 3
#endif
#ifndef SPANS
#define SPANS 2
#endif

#define CLOSED (-8)
#define NEW 0
#define TAKEN 1
#define DONE 2
#define FAILED 3

short gate = CLOSED;
byte next_part = 0;
bool stop = false, is_led = false, revoked = false, over = false;
byte span = 0;                 /* which span the words of the job are those of */
bool usable[SPANS + 1];        /* whether the memory of this span is its kernel's, or quarantined */
byte part[PARTS];
byte whose[PARTS];             /* the span whose record a part is a copy of */
bool offered[HELPERS];
bool hangs = false;            /* somebody is in a handler that does not return */

/* the handler, over one part: `mine` is the span whose job was entered */
inline run_part(i, mine) {
    assert(usable[mine] && span == mine);
    assert(part[i] == NEW);
    part[i] = TAKEN; whose[i] = span;
    if
    :: true -> atomic { assert(usable[mine]); part[i] = DONE }
    :: true -> atomic { assert(usable[mine]); part[i] = FAILED }; stop = true
    :: !hangs -> hangs = true; goto end_hung
    fi
}

proctype Helper(byte me) {
    byte i, mine;
    short seen;
end_idle:
    do
    :: atomic { offered[me] -> offered[me] = false };
        /* enter */
        seen = gate;
        do
        :: seen < 0 -> break
        :: seen >= 0 ->
            if
            :: atomic { gate == seen -> gate = gate + 1 }; mine = span; goto inside
            :: atomic { gate != seen -> seen = gate }
            fi
        od;
        goto outside;
inside:
        do
        :: stop -> break
        :: !stop ->
            atomic { i = next_part; next_part = next_part + (next_part <= PARTS + HELPERS -> 1 : 0) };
            if
            :: i >= PARTS -> break
            :: i < PARTS -> run_part(i, mine)
            fi
        :: true -> break           /* somebody rings for this worker */
        od;
        /* leave */
        gate = gate - 1;
outside:
        skip
    :: over -> goto out
    od;
end_hung:
    false;
out:
    skip
}

inline close_gate(seen) {
    seen = gate;
    do
    :: seen < 0 -> break
    :: seen >= 0 ->
        if
        :: atomic { gate == seen -> gate = gate + CLOSED; seen = CLOSED }
        :: atomic { gate != seen -> seen = gate }
        fi
    od
}

proctype Leader() {
    byte i, mine, good, handed;
    short seen;
    do
    :: span < SPANS && !revoked ->
        is_led = true;
        /* lay out: nobody is inside */
        assert(gate == CLOSED);
        atomic {
            span = span + 1; mine = span; usable[mine] = true; next_part = 0; stop = false;
            i = 0; do :: i < PARTS -> part[i] = NEW; i++ :: else -> break od
        };
        gate = 0;
        atomic { i = 0; do :: i < HELPERS -> offered[i] = true; i++ :: else -> break od };
        do
        :: stop -> break
        :: !stop ->
            atomic { i = next_part; next_part = next_part + (next_part <= PARTS + HELPERS -> 1 : 0) };
            if
            :: i >= PARTS -> break
            :: i < PARTS -> run_part(i, mine)
            fi
        :: true -> stop = true     /* a command, or time is up */
        od;
        close_gate(seen);
        /* wait for helpers */
        if
        :: gate == CLOSED
        :: revoked -> goto gone
        fi;
        /* gather */
        atomic {
            handed = (next_part < PARTS -> next_part : PARTS);
            good = 0;
            do
            :: good < handed && part[good] == DONE -> good++
            :: else -> break
            od;
            i = 0;
            do
            :: i < good -> assert(part[i] == DONE && whose[i] == mine); i++
            :: i >= good && i < handed -> assert(part[i] >= DONE); i++    /* what was taken is over */
            :: else -> break
            od
        };
        is_led = false;
        /* commit: a compare-and-swap against the supervisor's */
        atomic {
            if
            :: revoked -> goto gone
            :: !revoked -> assert(!revoked); usable[mine] = false
            fi
        }
    :: else -> goto gone
    od;
end_hung:
    false;
gone:
    over = true
}

proctype Supervisor() {
    bool impatient;
    short seen;
    if
    :: impatient = true            /* it may revoke the kernel at any time */
    :: impatient = false           /* only if somebody hangs: nothing else may hold up the leader for ever */
    fi;
    if
    :: over
    :: (impatient || hangs) && !over ->
        revoked = true;            /* its memory is quarantined: `usable` stays */
        /* stop_job */
        if
        :: is_led -> stop = true; close_gate(seen)
        :: !is_led
        fi
    fi
}

init {
    byte h = 0;
    atomic {
        run Leader();
        run Supervisor();
        do
        :: h < HELPERS -> run Helper(h); h++
        :: else -> break
        od
    }
}
