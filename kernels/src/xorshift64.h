// The shifts 13, 7, 17 of VARIANT 0, or 12, 25, 27 of the others, which multiply: 1 what
// is put out, 2 the state too.

#define STREAM
#define STAR 0x2545f4914f6cdd1dul

typedef struct { UL x; } generator;

FN void seed(generator *g, UL seeds) { g->x = seeds; }

FN void advance(generator *g) {
	UL x = g->x;
	if (VARIANT == 0) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	} else {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
	}
	g->x = VARIANT == 2 ? x * STAR : x;
}

FN UL output(const generator *g) {
	generator next = *g;
	advance(&next);
	return VARIANT == 1 ? next.x * STAR : next.x;
}
