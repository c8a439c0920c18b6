// x ^= x << 13; x ^= x >> 17; x ^= x << 5 in 32 bits.

#define BY(steps) (u32)(steps)[0]

typedef struct { UV x; } state;

FN void start(state *g, u64 first) { g->x = SEEDS(first); }

FN void step(state *g, u32 n) {
	for (u32 i = 0; i < n; i++) {
		g->x ^= g->x << 13;
		g->x ^= g->x >> 17;
		g->x ^= g->x << 5;
	}
}

FN UV word(const state *g) { return g->x; }
