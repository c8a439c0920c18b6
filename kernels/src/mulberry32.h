// mulberry32.

#define STREAM

typedef struct { UV s; } generator;

FN void seed(generator *g, UL seeds) { g->s = NARROW(seeds); }

FN void advance(generator *g) { g->s += 0x6d2b79f5u; }

FN UL output(const generator *g) {
	UV z = g->s + 0x6d2b79f5u;
	z = (z ^ (z >> 15)) * (z | 1u);
	z ^= z + (z ^ (z >> 7)) * (z | 61u);
	return WIDE(z ^ (z >> 14));
}
