// Of the generators that are run output by output: the file before this one has
// generator, seed, advance and output, the number that is put out next. VARIANT is which
// of the file's generators is meant. An output becomes a word by MODULUS, or where that is
// above all words by the loss of its DROP low bits.

#define BY(steps) (u32)(steps)[0]

typedef struct {
	generator g;
	UV word;
} state;

FN void start(state *s, u64 first) { seed(&s->g, LONG_SEEDS(first)); }

FN void step(state *s, u32 n) {
	while (--n > 0)
		advance(&s->g);
	UL x = output(&s->g);
	if ((u64)MODULUS >> 32)
		s->word = NARROW(x >> DROP);
	else
		s->word = NARROW(x % (u64)MODULUS);
	advance(&s->g);
}

FN UV word(const state *s) { return s->word; }
