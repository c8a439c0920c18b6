// Marsaglia's xorshift of four words, the first of them the seed.

#define STREAM

typedef struct { UV x, y, z, w; } generator;

FN void seed(generator *g, UL seeds) {
	g->x = NARROW(seeds);
	g->y = 362436069u;
	g->z = 521288629u;
	g->w = 88675123u;
}

FN void advance(generator *g) {
	UV t = g->x ^ (g->x << 11);
	g->x = g->y;
	g->y = g->z;
	g->z = g->w;
	g->w ^= (g->w >> 19) ^ t ^ (t >> 8);
}

FN UL output(const generator *g) {
	generator next = *g;
	advance(&next);
	return WIDE(next.w);
}
