// x = 6364136223846793005*x + 1442695040888963407 modulo 2^64, the whole of it.

#define STREAM

typedef struct { UL x; } generator;

FN void seed(generator *g, UL seeds) { g->x = seeds; }

FN void advance(generator *g) { g->x = g->x * 6364136223846793005ul + 1442695040888963407ul; }

FN UL output(const generator *g) {
	generator next = *g;
	advance(&next);
	return next.x;
}
