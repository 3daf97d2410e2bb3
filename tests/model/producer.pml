/* The end that sends packets: a TxQueue and its TxRing, or a peer that lacks our fence. */

/* free_slots: FREE is what is known, look_at_returned() reads the other end's index anew. */
#ifdef OFF_BY_ONE
#define SPARE 1
#else
#define SPARE 0
#endif
#ifdef S2M
#define FREE          IDX(seen + SIZE + SPARE - cursor)
#define IMPOSSIBLE    (IDX(now - seen) > IDX(settled - seen))
#else
#define FREE          IDX(seen + SPARE - cursor)
#define IMPOSSIBLE    (IDX(seen - settled) + IDX(now - seen) > SIZE)
#endif

inline look_at_returned() {
    atomic {
        now = returned;
        assert(!IMPOSSIBLE);                    /* else the code would call the peer broken */
        seen = now;
        now = 0
    }
}

/* Without acquire, the descriptor that is looked at next may have been loaded before the index. */
#ifdef LOOSE_FREE
#define look_ahead()    early = length[SLOT(cursor)]
#define look_at()       assert(early == ARMED && length[SLOT(cursor)] == ARMED); early = ARMED
#else
#define look_ahead()    skip
#define look_at()       assert(length[SLOT(cursor)] == ARMED)
#endif

/* One slot: payload, then descriptor. A master stores the two halves of the word apart, and leaves the rest alone. */
inline fill(last) {
    atomic {
#ifdef M2S
        look_at();                              /* an empty buffer is there */
#endif
        store(PRODUCER, PAYLOAD, SLOT(cursor), PACK(written, last), 0);
#ifdef S2M
        store(PRODUCER, WORD, SLOT(cursor), PACK(written, !last), 0);
#else
        store(PRODUCER, LENGTH, SLOT(cursor), written, 0);
        store(PRODUCER, FLAGS, SLOT(cursor), !last, 0);
#endif
        watched = watched || written == 0;
        written = IDX(written + 1);
        cursor = IDX(cursor + 1)
    }
}

#ifdef LOOSE_PUBLISH
#define RELEASE 0
#else
#define RELEASE 1
#endif

inline publish() {
    atomic {
        settled = cursor;
        store(PRODUCER, PUBLISHED, 0, cursor, RELEASE)
    };
#ifdef UNFENCED
    skip;                                       /* the peer reads MASK_INT while its index may still be on its way */
#else
    fence(PRODUCER);
#endif
    atomic {
        if
        :: mask -> skip
        :: else -> syscall(PRODUCER); event = 1
        fi
    }
}

proctype Producer() {
    byte cursor, settled, seen, now, need, left = BURST;
#ifdef LOOSE_FREE
    byte early = ARMED;
#endif
    do
    :: cursor == settled -> quit = 1; break     /* the application stops for ever, at any time */
    :: left > 0 ->                              /* one more packet for this burst */
        if
        :: need = 1
#ifdef CHAINS
        :: need = 2
#endif
        fi;
        if
        :: FREE >= need -> skip
        :: else -> look_ahead(); look_at_returned()
        fi;
        if
        :: FREE >= need ->
            left--;
#ifdef CHAINS
            if
            :: need == 2 ->
                fill(0);
#if defined(TWO_STORES) || defined(PEER_CUTS)
                store(PRODUCER, PUBLISHED, 0, cursor, RELEASE);
#endif
            :: else -> skip
            fi;
#endif
            fill(1);
            need = 0
        :: else ->                              /* full: publish what is there, or wait for slots, which nothing signals */
            need = 0;
            if
            :: cursor != settled -> left = 0
            :: else -> returned != seen
            fi
        fi
    :: cursor != settled -> publish(); left = BURST
    od
}
