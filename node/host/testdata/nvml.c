/* A stand-in for NVIDIA's libnvidia-ml.so.1, for tests: two cards, and what FAULT
   says goes wrong: 0 nothing, 1 a symbol is missing, 2 an error, 3 a hang, 4 an
   abort, 5 the second card is lost, 6 it prints where it should not, 7 a card that
   is hot and supports little. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long cards[2] = {1, 2};

int nvmlInit_v2(void) {
	if (FAULT == 2) return 9;
	if (FAULT == 3) for (;;) pause();
	if (FAULT == 4) { fputs("NVML: internal error\n", stderr); abort(); }
	if (FAULT == 6) { puts("{\"NVML\":{}}"); fflush(stdout); }
	return 0;
}
static int text(char *to, unsigned size, const char *s) { snprintf(to, size, "%s", s); return 0; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(to, size, "550.54.14"); }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **card) { *card = &cards[i]; return 0; }
static int gone(void *card) { return FAULT == 5 && card == &cards[1]; }
int nvmlDeviceGetName(void *card, char *to, unsigned size) { return text(to, size, "NVIDIA GeForce RTX 3080 Ti"); }
int nvmlDeviceGetUUID(void *card, char *to, unsigned size) {
	return text(to, size, card == &cards[0] ? "GPU-11111111-2222-3333-4444-555555555555" : "GPU-66666666-7777-8888-9999-aaaaaaaaaaaa");
}
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; };
int nvmlDeviceGetPciInfo_v3(void *card, struct pci *p) {
	memset(p, 0, sizeof *p);
	return text(p->text, sizeof p->text, card == &cards[0] ? "00000000:01:00.0" : "00000000:02:00.0");
}
int nvmlDeviceGetMemoryInfo(void *card, unsigned long long *sizes) {
	sizes[0] = 12884901888ULL; sizes[1] = 12616466432ULL; sizes[2] = 268435456ULL;
	return 0;
}
int nvmlDeviceGetTemperature(void *card, unsigned sensor, unsigned *v) {
	*v = FAULT == 7 ? 97 : 55;
	return gone(card) ? 15 : 0;
}
int nvmlDeviceGetTemperatureThreshold(void *card, unsigned kind, unsigned *v) { *v = 96; return FAULT == 7 ? 3 : 0; }
#if FAULT != 1
int nvmlDeviceGetClockInfo(void *card, unsigned kind, unsigned *v) {
	*v = kind == 1 ? 1665 : 9501;
	return gone(card) ? 15 : FAULT == 7 ? 3 : 0;
}
#endif
