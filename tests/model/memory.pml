/* The shared memory of one ring, and the store buffer between each end and that memory.
 *
 * A store goes into the buffer of the end that makes it. Some time later the end's Memory process commits it, and only
 * then does the other end see it. TSO (the default; x86): in the order of the stores. WEAK (after ARM): in any order,
 * but a release store comes after all that were made before it, and stores to one place keep their order.
 */

#define PRODUCER 0              /* of packets: the slave on S2M, the master on M2S */
#define CONSUMER 1

/* Places. The first three are there once, the others once a slot. */
#define PUBLISHED 0             /* the producer's index: head on S2M, tail on M2S */
#define RETURNED  1             /* the consumer's index: tail on S2M, head on M2S */
#define MASK      2             /* MASK_INT in the ring's flags */
#define PAYLOAD   3             /* the bytes of a buffer */
#define WORD      4             /* the first 64 bits of a descriptor: flags and length together */
#define LENGTH    5             /* the length alone */
#define FLAGS     6             /* the flags alone */

#define PACK(number, bit)  (((number) << 1) | (bit))
#define ARMED 30                /* a length that means: capacity of an empty buffer */
#define JUNK  31                /* what memory holds before anybody wrote */

byte published, returned;
bit mask;
byte payload[SIZE] = PACK(JUNK, 0);     /* number of the piece, and whether it ends its packet */
byte length[SIZE] = JUNK;               /* number of the piece, or ARMED */
bit next[SIZE];
bit event;                              /* the event fd is readable */

typedef Store { byte place; byte slot; byte value; bit release };
typedef Buffer { byte n; Store at[DEPTH] };
Buffer pending[2];

/* Ghosts: known to the checks only. */
bit held[SIZE];                 /* the consumer is reading this slot */
byte written, received;         /* pieces so far, modulo MOD */
bit quit;                       /* the producer's application has nothing to send any more */
bit watched;                    /* piece 0 is published and not yet received */

#define fence(me)    (pending[me].n == 0)
#define syscall(me)  (pending[me].n == 0)       /* the kernel's own locks and wake-ups are barriers */

inline store(me, where, which, what, how) {
    atomic {
        pending[me].n < DEPTH;
        pending[me].at[pending[me].n].place = where;
        pending[me].at[pending[me].n].slot = which;
        pending[me].at[pending[me].n].value = what;
        pending[me].at[pending[me].n].release = how;
        pending[me].n++
    }
}

/* What the rules say of memory whenever an index becomes visible. */
inline check_index() {
    assert(OUTSTANDING <= SIZE);                                /* no slot is overrun */
#ifndef PEER_CUTS
    assert(!next[SLOT(published - 1)])                          /* a chain comes whole */
#endif
}

inline commit(me, k) {
    if
    :: pending[me].at[k].place == PUBLISHED -> published = pending[me].at[k].value; check_index()
    :: pending[me].at[k].place == RETURNED -> returned = pending[me].at[k].value; assert(OUTSTANDING <= SIZE)
    :: pending[me].at[k].place == MASK -> mask = pending[me].at[k].value
    :: else ->
        assert(me == CONSUMER || !held[pending[me].at[k].slot]);        /* nobody writes what is being read */
        if
        :: pending[me].at[k].place == PAYLOAD -> payload[pending[me].at[k].slot] = pending[me].at[k].value
        :: pending[me].at[k].place == LENGTH -> length[pending[me].at[k].slot] = pending[me].at[k].value
        :: pending[me].at[k].place == FLAGS -> next[pending[me].at[k].slot] = pending[me].at[k].value
        :: pending[me].at[k].place == WORD ->
            length[pending[me].at[k].slot] = pending[me].at[k].value >> 1;
            next[pending[me].at[k].slot] = pending[me].at[k].value & 1
        fi
    fi
}

/* Take entry k out of the buffer; what is unused stays zero, so that equal buffers are equal states. */
inline remove(me, k) {
    pending[me].n--;
    do
    :: k < pending[me].n ->
        pending[me].at[k].place = pending[me].at[k + 1].place;
        pending[me].at[k].slot = pending[me].at[k + 1].slot;
        pending[me].at[k].value = pending[me].at[k + 1].value;
        pending[me].at[k].release = pending[me].at[k + 1].release;
        k++
    :: else -> break
    od;
    pending[me].at[k].place = 0;
    pending[me].at[k].slot = 0;
    pending[me].at[k].value = 0;
    pending[me].at[k].release = 0
}

/* Two stores to one place, or to overlapping ones: only the two halves of a descriptor's word are apart. */
#define PLACE(me, k)     pending[me].at[k].place
#define OVERLAP(me, a, b)                                                                      \
    (pending[me].at[a].slot == pending[me].at[b].slot &&                                       \
     (PLACE(me, a) == PLACE(me, b) ||                                                          \
      (PLACE(me, a) >= WORD && PLACE(me, b) >= WORD && (PLACE(me, a) == WORD || PLACE(me, b) == WORD))))

/* may: one bit for every store that can be committed now. The oldest always can. */
inline find_committable(me, k, j, may) {
    may = 1;
    k = 1;
    do
    :: k < pending[me].n ->
        j = 0;
        do
        :: j < k && !OVERLAP(me, j, k) -> j++
        :: else -> break
        od;
        may = may | ((j == k && !pending[me].at[k].release) << k);
        k++
    :: else -> break
    od;
    k = 0;
    j = 0
}

proctype Memory(byte me) {
    byte k;
#ifdef WEAK
    byte j, may;
#endif
end:
    do
    :: atomic {
        pending[me].n > 0;
#ifdef WEAK
        d_step { find_committable(me, k, j, may) };
        if
        :: may & 1 -> k = 0
        :: may & 2 -> k = 1
        :: may & 4 -> k = 2
        :: may & 8 -> k = 3
        :: may & 16 -> k = 4
        :: may & 32 -> k = 5
        :: may & 64 -> k = 6
        :: may & 128 -> k = 7
        fi;
        may = 0;
#endif
        d_step { commit(me, k); remove(me, k); k = 0 }
    }
    od
}
