/* The end that receives packets: an RxQueue and its RxRing. */

/* One received burst that the application still holds; see struct Run. */
typedef Run { byte slots; bit done };

/* On M2S the slave's head is that far ahead of the oldest slot it has not given back. */
#ifdef M2S
#define AHEAD SIZE
#else
#define AHEAD 0
#endif
#ifdef LOOSE_RETURN
#define RETURN_ORDER 0
#else
#define RETURN_ORDER 1
#endif
#ifdef NO_WRAP
#define BEFORE(a, b)    ((a) < (b))
#else
#define BEFORE(a, b)    ((a) != (b))
#endif

/* Read the producer's index. */
inline look_at_published() {
    atomic {
        now = published;
        assert(IDX(seen - settled) + IDX(now - seen) <= SIZE);  /* peer_moved: else the peer would be called broken */
        seen = now;
        now = 0
    }
}

/* Without acquire, the next slot may have been read before the index that makes it visible. */
#ifdef LOOSE_LOADS
#define read_early()    d_step { early_length = length[SLOT(cursor)]; early_payload = payload[SLOT(cursor)] }
#define LENGTH_AT(at)   ((at) == cursor -> early_length : length[SLOT(at)])
#define PAYLOAD_AT(at)  ((at) == cursor -> early_payload : payload[SLOT(at)])
#else
#define read_early()    skip
#define LENGTH_AT(at)   length[SLOT(at)]
#define PAYLOAD_AT(at)  payload[SLOT(at)]
#endif

inline set_mask(on) {
    store(CONSUMER, MASK, 0, on, 0);
#ifndef ARM_UNFENCED
    fence(CONSUMER)
#endif
}

/* The oldest slots go back to the producer; on M2S they are armed again first. */
inline give_back(count) {
    atomic {
        i = count;
        do
        :: i > 0 ->
#ifdef M2S
            store(CONSUMER, WORD, SLOT(settled), PACK(ARMED, 0), 0);
#endif
            settled = IDX(settled + 1);
            i--
        :: else -> break
        od;
#ifndef NO_RETURN
        store(CONSUMER, RETURNED, 0, IDX(settled + AHEAD), RETURN_ORDER)
#endif
    }
}

/* Finished runs go back, as far as no run that is still lent is in front of them. */
inline settle() {
    count = 0;
    do
    :: lent[0].done ->
        count = count + lent[0].slots;
        lent[0].slots = lent[1].slots;
        lent[0].done = lent[1].done;
        lent[1].slots = 0;
        lent[1].done = 0
    :: else -> break
    od;
    if
    :: count > 0 -> give_back(count); count = 0
    :: else -> skip
    fi
}

/* The application reads the payload of run `which` for the last time. */
inline read_again(which) {
    d_step {
        at = settled;
        i = 0;
        do
        :: i < which -> at = IDX(at + lent[i].slots); i++
        :: else -> break
        od;
        i = lent[which].slots;
        do
        :: i > 0 ->
            assert(payload[SLOT(at)] >> 1 == at);       /* still what it was when it came */
            held[SLOT(at)] = 0;
            at = IDX(at + 1);
            i--
        :: else -> break
        od;
        at = 0
    }
}

/* Burst.release */
inline give_up(which) {
#ifdef EARLY_RETURN
    atomic { count = lent[which].slots; give_back(count) };
    atomic { settled = IDX(settled - count); read_again(which); settled = IDX(settled + count); count = 0; lent[which].slots = 0 }
#else
    atomic { read_again(which); lent[which].done = 1; settle() }
#endif
}

/* One packet, all its pieces, out of the slots up to `seen`. */
inline take_packet() {
    atomic {
        d_step {
            i = 0;
            do
            :: IDX(cursor + i) == seen -> stalled = i; i = 0; break     /* its end is not visible yet */
            :: else ->
                at = IDX(cursor + i);
                assert(LENGTH_AT(at) == IDX(received + i));     /* no loss, no duplicate, in order */
                assert(PAYLOAD_AT(at) >> 1 == IDX(received + i));
                assert(next[SLOT(at)] == !(payload[SLOT(at)] & 1));     /* the chain has the sender's pieces */
                i++;
                if
                :: !next[SLOT(at)] -> break
                :: else -> assert(i < SIZE)                     /* chain(): it would never end */
                fi
            od;
#ifdef CHAINS
            if
            :: taken + i > capacity -> no_room = 1; i = 0              /* the columns do not hold all its pieces */
            :: else -> skip
            fi;
#endif
            count = i;
            at = cursor
        };
        do
        :: i > 0 ->
            watched = watched && received != 0;
            held[SLOT(at)] = 1;
#ifdef S2M
            if
            :: count > 1 -> store(CONSUMER, FLAGS, SLOT(at), 0, 0)      /* a producer may only OR the flag */
            :: else -> skip
            fi;
#endif
            at = IDX(at + 1);
            received = IDX(received + 1);
            i--
        :: else -> break
        od;
        got = got + (count > 0);
        taken = taken + count;
        cursor = at;
        at = 0;
        count = 0
    }
}

/* RxRing.take: up to `limit` packets and `capacity` pieces. The index is read anew only when fewer slots than `limit`
 * are known of, or the end of a chain is awaited. */
inline take() {
    if
    :: IDX(seen - cursor) < limit || stalled -> read_early(); look_at_published()
    :: else -> skip
    fi;
    stalled = 0;
    no_room = 0;
    do
    :: BEFORE(cursor, seen) && got < limit && !stalled && !no_room -> take_packet()
    :: else -> break
    od
}

#define READY   (BEFORE(cursor, seen) && IDX(seen - cursor) != stalled)
#ifdef NO_RESIGNAL
#define resignal()      skip
#else
#define resignal()      syscall(CONSUMER); event = 1
#endif

/* take_locked: `take`, and an empty event fd for an empty ring. */
inline take_locked() {
    take();
#ifdef EVENT_LOOP
    if
    :: got < limit ->
        look_at_published();
        if
        :: READY -> skip
        :: else ->
            syscall(CONSUMER);
            event = 0;                          /* drain, then look once more */
#ifndef BLIND_DRAIN
            take();
            look_at_published();
            if
            :: READY -> resignal()              /* wake_self: the limit or the columns left some for the next call */
            :: else -> skip
            fi
#endif
        fi
    :: else -> skip
    fi
#endif
}

#define ALL_RECEIVED    (quit && received == written)

proctype Consumer() {
    byte cursor, settled, seen, stalled, limit, capacity, got, taken, now, i, at, count;
    bit no_room;
    Run lent[2];
#ifdef LOOSE_LOADS
    byte early_length, early_payload;
#endif
#ifdef M2S
    settled = IDX(MOD - SIZE);
    give_back(SIZE);                            /* RxRing.start */
#endif
    set_mask(SPINS);                            /* RxQueue.attach */
#ifdef EVENT_LOOP
    goto wait;
#endif

recv:
    if
    :: limit = 1
#if BURST > 1
    :: limit = BURST
#endif
    fi;
again:
    capacity = limit;
    take_locked();
    if
    :: taken == 0 && no_room -> capacity = SIZE; take_locked()     /* a chain longer than the columns */
    :: else -> skip
    fi;
    if
    :: taken > 0 ->
        d_step {
            if
            :: lent[0].slots == 0 -> lent[0].slots = taken
            :: else -> lent[1].slots = taken
            fi;
            taken = 0;
#ifndef EVENT_LOOP
            got = 0;
            limit = 0
#endif
        }
    :: else ->
        if
        :: lent[0].slots == 0 -> goto wait
        :: else -> got = 0; limit = 0           /* recv(timeout=0) found nothing */
        fi
    fi;

    do                                          /* the application */
    :: lent[0].slots && !lent[0].done -> give_up(0)
#if RUNS > 1
    :: lent[1].slots && !lent[1].done -> give_up(1)
    :: !lent[1].slots -> goto recv
#endif
    :: !lent[0].slots -> break
    od;
#ifdef EVENT_LOOP
    if
    :: AGAIN -> got = 0; goto recv
    :: else -> skip
    fi;
#else
    goto recv;
#endif

wait:                                           /* RxQueue.sleep_until */
#ifdef EVENT_LOOP
    got = 0;
    limit = 0;
#else
#if SPINS
    look_at_published();                                     /* spin */
    if
    :: READY -> goto again
    :: else -> skip
    fi;
#endif
    set_mask(0);                                /* arm */
#ifndef NO_RECHECK
    look_at_published();
    if
    :: READY -> goto woken
    :: else -> skip
    fi;
#endif
#endif
    if                                          /* poll */
    :: event -> skip
#ifdef BOUNDED_WAIT
    :: skip                                     /* 100 ms are over */
#endif
    :: ALL_RECEIVED -> goto finished
    fi;
#ifdef EVENT_LOOP
    goto recv;
#else
    if
    :: event -> syscall(CONSUMER); event = 0    /* drain */
    :: else -> skip
    fi;
#if SPINS
    set_mask(1);
#endif
    look_at_published();
    if
    :: READY -> goto again
    :: else -> goto wait
    fi;
woken:
#if SPINS
    set_mask(1);
#endif
    goto again;
#endif
finished:
    skip
}
