/* A kernel's turns, commits and ends, in Promela: ringkernel/ring/spans/commit.py, turns/turn.py, block/token.py,
 * block/ledger.py, protocol/cursors.py and protocol/doorbell.py. Each line names the function that it mirrors.
 *
 * A poller takes turns: in each it looks at the command, runs a span over one message, commits and publishes it. It may
 * die before every line; then somebody recovers the kernel. READERS readers take the outputs, and sleep where there are
 * none. An auditor reads cursors and the ledger, and a supervisor revokes the kernel, or pauses it.
 *
 * Stores go through buffers, one for each process, and come out in any order: but not before an earlier one to the same
 * word, an earlier release fence, and, if they are releases themselves, anything earlier. A full fence and a
 * read-modify-write wait until the buffer is empty. Loads are not reordered here: `weak_memory.py` does that.
 */

#ifndef READERS
#define READERS 1
#endif
#ifndef SPANS
#define SPANS 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef SUPERVISOR
#define SUPERVISOR 0           /* 1: it revokes the kernel; 2: it pauses it; 3: it looks, as the auditor */
#endif

/* words */
#define OWNER 0
#define TAIL 1
#define HEAD 2
#define VERSION 3
#define PROCESSED 4
#define EMITTED 5
#define EPOCH 6
#define COMMAND 7
#define ECHO 8
#define STATUS 9
#define SLOT 10                /* one for each span */
#define BELL (SLOT + SPANS)    /* a doorbell for each reader */
#define WORDS (BELL + READERS)

#define FREE 0                 /* of OWNER */
#define CLAIMED 1
#define COMMIT 2
#define REVOKED 3
#define GONE 4
#define ARMED 1                /* of BELL */
#define RUNG 2
#define QUIET 0
#define PAUSE 1                /* of COMMAND */
#define DEACTIVATED 1          /* of STATUS */

#define POLLER 0
#define HOST (1 + READERS)
#define PROCESSES (2 + READERS)

byte mem[WORDS];
bool sleeps[READERS];          /* the wait handle of a reader: it is woken by the system, in no buffer */
bool woken[READERS];

/* buffers: the words, the values, and what order they come out in */
#define MOST 6
#define PLAIN 0
#define RELEASE 1
#define FENCE 2
typedef Buffer { byte n; byte word[MOST]; byte value[MOST]; byte order[MOST] }
Buffer buffer[PROCESSES];

bool dead = false, over = false;
/* the span record: the poller's, and then of who recovers. Nobody else reads it, and a death empties the buffer */
byte record_tail, record_head, record_version, record_processed, record_emitted;
byte next = 0;                 /* ring.next */
byte spans = 0;                /* how many were run */
bool committed = false;        /* the last of them was */
bool answered = false;
bool commanded = false;        /* the supervisor's command is there for everybody, and `given` spans were run by then */
byte given = 0;
bool taken = false;            /* the supervisor has taken the kernel between two turns */

inline put(p, w, v, o) {
    atomic {
        buffer[p].n < MOST ->
        buffer[p].word[buffer[p].n] = w; buffer[p].value[buffer[p].n] = v; buffer[p].order[buffer[p].n] = o;
        buffer[p].n = buffer[p].n + 1
    }
}
#define store(p, w, v) put(p, w, v, PLAIN)
#define store_release(p, w, v) put(p, w, v, RELEASE)
#define fence_release(p) put(p, 255, 0, FENCE)
#define fence(p) buffer[p].n == 0

/* what a process sees: the last it has stored itself, or what others see */
inline load(p, w, into) {
    d_step {
        into = mem[w]; k = 0;
        do
        :: k < buffer[p].n -> if :: buffer[p].word[k] == w -> into = buffer[p].value[k] :: else fi; k++
        :: else -> break
        od;
        k = 0
    }
}
inline compare_exchange(p, w, expected, value, seen) {
    atomic { buffer[p].n == 0 -> seen = mem[w]; if :: seen == expected -> mem[w] = value :: else fi }
}

#define same(p, i, j) (buffer[p].word[i] == buffer[p].word[j] || buffer[p].order[j] == FENCE)
#define may_come_out(p, i) (i == 0 || (buffer[p].order[i] == PLAIN && !same(p, i, 0) \
    && (i == 1 || (!same(p, i, 1) && (i == 2 || (!same(p, i, 2) && (i == 3 || (!same(p, i, 3) && (i == 4 || !same(p, i, 4))))))))))

/* one entry of one buffer comes out, whichever may */
inline drain(p, i) {
    atomic {
        i < buffer[p].n && may_come_out(p, i) ->
        if :: buffer[p].order[i] != FENCE -> mem[buffer[p].word[i]] = buffer[p].value[i] :: else fi;
        k = i;
        do
        :: k + 1 < buffer[p].n ->
            buffer[p].word[k] = buffer[p].word[k + 1]; buffer[p].value[k] = buffer[p].value[k + 1];
            buffer[p].order[k] = buffer[p].order[k + 1]; k++
        :: else -> break
        od;
        buffer[p].n = buffer[p].n - 1;
        buffer[p].word[buffer[p].n] = 0; buffer[p].value[buffer[p].n] = 0; buffer[p].order[buffer[p].n] = 0;
        k = 0
    }
}
proctype Memory(byte p) {
    byte k;
end_empty:
    do
    :: drain(p, 0)
    :: drain(p, 1)
    :: drain(p, 2)
    :: drain(p, 3)
    :: drain(p, 4)
    :: drain(p, 5)
    od
}

/* ring_doorbell: for who has published; unpark and wake are one call of the system */
inline ring(p, reader) {
    load(p, BELL + reader, seen);
    if
    :: seen == ARMED ->
        compare_exchange(p, BELL + reader, ARMED, RUNG, seen);
        if
        :: seen == ARMED -> woken[reader] = true
        :: else
        fi
    :: else
    fi
}

#define step if :: DEATHS && !dead -> dead = true; goto died :: true fi

/* publish_span, of the record: the poller's, and once more that of who recovers */
inline publish_span() {
    next = record_tail + 1;                                     /* set_tail */
    step; store_release(POLLER, TAIL, record_tail + 1);         /* set_tail */
    step; store_release(POLLER, HEAD, record_head + 1);         /* move_heads */
    step; load(POLLER, VERSION, seen);                          /* keep_ledger */
    if
    :: seen > record_version + 1                                /* it was counted */
    :: else ->
        store(POLLER, VERSION, record_version + 1);             /* keep_ledger */
        step; fence_release(POLLER);                            /* keep_ledger */
        step; store(POLLER, PROCESSED, record_processed + 1);   /* keep_ledger */
        step; store(POLLER, EMITTED, record_emitted + 1);       /* keep_ledger */
        step; store_release(POLLER, VERSION, record_version + 2) /* keep_ledger */
    fi;
    step; fence(POLLER);                                        /* publish_span: the cursors, before the looks */
    r = 0;
    do
    :: r < READERS -> ring(POLLER, r); r++                      /* notify_consumers */
    :: else -> break
    od
}

proctype Poller() {
    byte k, seen, r, epoch, echo;
    do
    :: spans < SPANS ->
        compare_exchange(POLLER, OWNER, FREE, CLAIMED, seen);   /* turn */
        if
        :: seen != FREE -> break
        :: else
        fi;
        load(POLLER, EPOCH, epoch); load(POLLER, ECHO, echo);   /* turn */
        if
        :: epoch != echo ->                                     /* obey */
            load(POLLER, COMMAND, seen);
            assert(seen == PAUSE);
            store(POLLER, STATUS, DEACTIVATED);                 /* give_back */
            store_release(POLLER, ECHO, epoch);                 /* give_back */
            goto left
        :: else
        fi;
        assert(!answered && !taken);
        assert(!commanded || spans == given);                   /* a pause is obeyed within a span */
        committed = false;
        step; store(POLLER, SLOT + spans, 1);                   /* the handler */
        d_step {                                                /* settle, note_ledger: before the word owner decides */
            record_tail = next; record_head = spans; record_version = 2 * spans;
            record_processed = spans; record_emitted = spans; spans = spans + 1
        };
        step; compare_exchange(POLLER, OWNER, CLAIMED, COMMIT, seen); /* commit */
        if
        :: seen != CLAIMED -> goto left
        :: else
        fi;
        committed = true;
        step; publish_span();
        step; store_release(POLLER, OWNER, FREE);               /* release */
        committed = false
    :: else -> break
    od;
left:
    fence(POLLER);
    over = true;
    goto out;
died:
    fence(POLLER);                                              /* who finds it dead finds all that it has stored */
    load(POLLER, OWNER, seen);                                  /* recover */
    if
    :: seen == COMMIT -> publish_span()                         /* recover */
    :: else
    fi;
    if :: seen != FREE -> skip :: else fi;
    store_release(POLLER, OWNER, GONE);                         /* dismiss */
    fence(POLLER);
    over = true;
out:
    skip
}

proctype Reader(byte me) {
    byte k, head, tail, seen;
end_asleep:
    do
    :: load(1 + me, TAIL, tail);                                /* bound_of */
look:
        if
        :: tail > head ->
            load(1 + me, SLOT + head, seen);
            assert(seen == 1);                                  /* an output is there before its cursor says so */
            head++
        :: else ->
            compare_exchange(1 + me, BELL + me, QUIET, ARMED, seen); /* arm_doorbell */
            fence(1 + me);                                      /* arm_doorbell */
            load(1 + me, TAIL, tail);                           /* the last look */
            if
            :: tail > head -> goto look
            :: else
            fi;
            if
            :: woken[me] -> woken[me] = false; mem[BELL + me] = QUIET /* collect_tags */
            :: over && !woken[me] && buffer[POLLER].n == 0 ->
                assert(mem[TAIL] == head);                      /* it sleeps for ever, and an output waits */
                break
            fi
        fi
    od
}

proctype Auditor() {
    byte k, head, tail, version, processed, emitted, again;
    load(HOST, HEAD, head);
    load(HOST, TAIL, tail);
    assert(tail >= head);                                       /* an input's cursor implies what came of it */
    load(HOST, VERSION, version);                               /* copy_ledger */
    if
    :: version % 2 == 0 ->
        load(HOST, PROCESSED, processed);                       /* copy_bytes */
        load(HOST, EMITTED, emitted);                           /* copy_bytes */
        load(HOST, VERSION, again);                             /* copy_ledger */
        assert(again != version || (processed == emitted && 2 * processed == version))
    :: else
    fi
}

proctype Supervisor() {
    byte k, seen, tail;
    if
    :: SUPERVISOR == 1 ->
        compare_exchange(HOST, OWNER, FREE, REVOKED, seen);     /* revoke */
        if
        :: seen == FREE ->                                      /* it is the host's now, with all that it has done */
            taken = true;
            assert(mem[TAIL] == mem[HEAD] && mem[HEAD] == mem[PROCESSED] && mem[VERSION] == 2 * mem[PROCESSED])
        :: seen == CLAIMED ->
            compare_exchange(HOST, OWNER, CLAIMED, REVOKED, seen); /* revoke, forced */
            if
            :: seen == CLAIMED ->
                tail = mem[TAIL];
                over && buffer[POLLER].n == 0;
                assert(mem[TAIL] == tail && mem[HEAD] == tail && mem[PROCESSED] == tail) /* nothing comes after it */
            :: else
            fi
        :: else
        fi
    :: SUPERVISOR == 2 ->
        store(HOST, COMMAND, PAUSE);                            /* give_command */
        store_release(HOST, EPOCH, 1);                          /* give_command */
        fence(HOST);                                            /* give_command */
        d_step { given = spans; commanded = true };
        if
        :: mem[ECHO] == 1 ->                                    /* Handshake.take_news */
            answered = true;
            assert(mem[STATUS] == DEACTIVATED);
            assert(mem[TAIL] == mem[HEAD] && mem[HEAD] == mem[PROCESSED] && mem[HEAD] == spans);
            assert(mem[VERSION] == 2 * spans)
        :: over && buffer[POLLER].n == 0 && mem[ECHO] != 1      /* its turns were over before, or it has died */
        fi
    :: else
    fi
}

/* once all is over: each span has happened, or not, and the ledger says which */
proctype End() {
    over && buffer[POLLER].n == 0;
    assert(mem[TAIL] == mem[HEAD] && mem[HEAD] == mem[PROCESSED] && mem[PROCESSED] == mem[EMITTED]);
    assert(mem[VERSION] == 2 * mem[PROCESSED]);
    assert(mem[TAIL] == spans || (mem[TAIL] + 1 == spans && !committed));
    assert(!dead || mem[OWNER] == GONE)
}

init {
    byte i = 0;
    atomic {
        run Poller();
        do :: i < READERS -> run Reader(i); i++ :: else -> break od;
        i = 0;
        do :: i < PROCESSES -> run Memory(i); i++ :: else -> break od;
        if :: SUPERVISOR == 3 -> run Auditor() :: SUPERVISOR == 1 || SUPERVISOR == 2 -> run Supervisor() :: else fi;
        run End()
    }
}
