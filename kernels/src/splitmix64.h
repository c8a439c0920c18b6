// splitmix64.

#define STREAM

typedef struct { UL x; } generator;

FN void seed(generator *g, UL seeds) { g->x = seeds; }

FN void advance(generator *g) { splitmix64(&g->x); }

FN UL output(const generator *g) {
	UL x = g->x;
	return splitmix64(&x);
}
