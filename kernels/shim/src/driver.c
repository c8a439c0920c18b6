// A driver of GPUs, with its compiler, that runs kernels on the CPU. It offers the
// functions of CUDA and NVRTC that seedmesh uses, or with -DHIP those of HIP and
// hipRTC, and holds their callers to the rules: a thread has a current device,
// addresses on the device are none of the host's, and what was taken is given back.
//
// CLANG is the path of the compiler, PRELUDE of the text before a kernel, and SCRATCH
// of a directory for files.
// Without NVRTC, it takes the PTX in SCRATCH/kernels/ptx, and no other, and runs the source
// in SCRATCH/kernels of which that was made.
// DEVICES is how many there are. -DFAULT='"CALL"' with -DKIND=... makes one call
// fail (1), hang (2) or abort (3); KIND 4 loses a candidate; -DINCOMPLETE leaves the
// launch out; -DGFX has a device for gfx1030 only; -DREFUSES_PTX=NUMBER is the error that
// all PTX gets.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef DEVICES
#define DEVICES 2
#endif
#ifndef FAULT
#define FAULT ""
#endif
#ifndef KIND
#define KIND 0
#endif

enum { NO_DEVICE = 100, NO_CONTEXT = 201, INVALID = 1, BROKEN = 719, BAD_PTX = 218, NEW_PTX = 222 };

#ifdef HIP
#define DRIVER(name) hip##name
#define COMPILER(name) hiprtc##name
#define CUDA_OR_HIP(cuda, hip) hip
#else
#define DRIVER(name) cu##name
#define COMPILER(name) nvrtc##name
#define CUDA_OR_HIP(cuda, hip) cuda
#endif

// The host cannot read or write what has this added to its address.
#define ELSEWHERE (1ull << 60)

static _Thread_local uintptr_t current = ~0ull;
static int live; // buffers and modules

static int fault(const char *call) {
	if (strcmp(call, FAULT) != 0)
		return 0;
	if (KIND == 2)
		for (;;)
			pause();
	if (KIND == 3)
		abort();
	return KIND == 1 ? BROKEN : 0;
}

#define ENTER(call) do { int e = fault(call); if (e) return e; if (current == ~0ull) return NO_CONTEXT; } while (0)

int DRIVER(Init)(unsigned flags) {
	int e = fault("Init");
#ifdef GFX
	const char *gfx = getenv("HSA_OVERRIDE_GFX_VERSION");
	if (!gfx || strcmp(gfx, "10.3.0"))
		return NO_DEVICE;
#endif
	return e ? e : flags ? INVALID : DEVICES ? 0 : NO_DEVICE;
}

int DRIVER(DriverGetVersion)(int *version) { *version = 12345; return 0; }

int CUDA_OR_HIP(cuDeviceGetCount, hipGetDeviceCount)(int *n) { *n = DEVICES; return DEVICES ? 0 : NO_DEVICE; }

int DRIVER(DeviceGet)(int *id, int number) { *id = number; return 0; }

int DRIVER(DeviceGetName)(char *text, int size, int id) { snprintf(text, size, "shim %d", id); return 0; }

int DRIVER(DeviceGetPCIBusId)(char *text, int size, int id) { snprintf(text, size, "00F0:0%X:00.0", 10 + id); return 0; }

int CUDA_OR_HIP(cuDeviceTotalMem_v2, hipDeviceTotalMem)(size_t *bytes, int id) { *bytes = 16 << 20; return 0; }

#ifdef HIP
int hipSetDevice(int id) { current = id; return 0; }

const char *hipGetErrorString(int e) { return e == BROKEN ? "unspecified launch failure" : "an error of the shim"; }
#else
int cuDeviceGetAttribute(int *value, int what, int id) {
	*value = what == 75 ? 8 : what == 76 ? 6 : what == 13 ? 1000 : what == 16 ? 2 : 0; // capability 8.6, 1000 kHz, 2 multiprocessors
	return 0;
}

int cuDevicePrimaryCtxRetain(uintptr_t *context, int id) { *context = 0xC0 + id; return 0; }

int cuDevicePrimaryCtxRelease_v2(int id) { return live ? INVALID : 0; }

int cuCtxSetCurrent(uintptr_t context) { current = context; return context >= 0xC0 && context < 0xC0 + DEVICES ? 0 : INVALID; }

int cuGetErrorName(int e, const char **text) {
	*text = e == BROKEN ? "CUDA_ERROR_LAUNCH_FAILED" : e == BAD_PTX ? "CUDA_ERROR_INVALID_PTX" :
		e == NEW_PTX ? "CUDA_ERROR_UNSUPPORTED_PTX_VERSION" : "CUDA_ERROR_OF_THE_SHIM";
	return 0;
}
#endif

int CUDA_OR_HIP(cuMemAlloc_v2, hipMalloc)(uintptr_t *address, size_t bytes) {
	ENTER("MemAlloc");
	*address = (uintptr_t)malloc(bytes) + ELSEWHERE;
	memset((void *)(*address - ELSEWHERE), 0xA5, bytes);
	live++;
	return 0;
}

int CUDA_OR_HIP(cuMemFree_v2, hipFree)(uintptr_t address) {
	ENTER("MemFree");
	free((void *)(address - ELSEWHERE));
	live--;
	return 0;
}

int CUDA_OR_HIP(cuMemsetD8_v2, hipMemsetD8)(uintptr_t address, unsigned char value, size_t bytes) {
	ENTER("MemsetD8");
	memset((void *)(address - ELSEWHERE), value, bytes);
	return 0;
}

int CUDA_OR_HIP(cuMemcpyHtoD_v2, hipMemcpyHtoD)(uintptr_t to, const void *from, size_t bytes) {
	ENTER("MemcpyHtoD");
	memcpy((void *)(to - ELSEWHERE), from, bytes);
	return 0;
}

int CUDA_OR_HIP(cuMemcpyDtoH_v2, hipMemcpyDtoH)(void *to, uintptr_t from, size_t bytes) {
	ENTER("MemcpyDtoH");
	memcpy(to, (void *)(from - ELSEWHERE), bytes);
	return 0;
}

int CUDA_OR_HIP(cuCtxSynchronize, hipDeviceSynchronize)(void) { ENTER("Synchronize"); return 0; }

// Code is a header and a shared object.
struct code { char magic[8]; size_t size; };
static const char magic[8] = "seedshim";

struct module { void *handle; void (*run)(unsigned, unsigned, void **); };

static int load(struct module **module, const struct code *code) {
	char path[] = SCRATCH "/XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0 || write(fd, code + 1, code->size) != (ssize_t)code->size || close(fd))
		return BROKEN;
	struct module *m = malloc(sizeof *m);
	m->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	unlink(path);
	if (!m->handle)
		return INVALID;
	*module = m;
	live++;
	return 0;
}

static struct code *compiled_ptx(const char *text);

int DRIVER(ModuleLoadDataEx)(struct module **module, const void *image, unsigned n, const unsigned *options, void **values) {
	ENTER("ModuleLoadData");
	if (!memcmp(image, magic, sizeof magic))
		return load(module, image);
#ifdef HIP
	return INVALID;
#else
	if (n != 2 || options[0] != 5 || options[1] != 6)
		return INVALID;
#ifdef REFUSES_PTX
	snprintf(values[0], (size_t)values[1], "the shim refuses it");
	return REFUSES_PTX;
#endif
	struct code *code = compiled_ptx(image);
	if (code)
		return load(module, code);
	snprintf(values[0], (size_t)values[1], "it is not the PTX of the kernels");
	return BAD_PTX;
#endif
}

#ifndef HIP
int cuModuleGetGlobal_v2(uintptr_t *address, size_t *bytes, struct module *m, const char *name) {
	ENTER("ModuleGetGlobal");
	void *at = dlsym(m->handle, name);
	Dl_info info;
	const ElfW(Sym) *symbol;
	if (!at || !dladdr1(at, &info, (void **)&symbol, RTLD_DL_SYMENT))
		return 500;
	*address = (uintptr_t)at + ELSEWHERE;
	*bytes = symbol->st_size;
	return 0;
}
#endif

int DRIVER(ModuleUnload)(struct module *m) {
	ENTER("ModuleUnload");
	dlclose(m->handle);
	free(m);
	live--;
	return 0;
}

int DRIVER(ModuleGetFunction)(struct module **function, struct module *m, const char *name) {
	ENTER("ModuleGetFunction");
	m->run = (void (*)(unsigned, unsigned, void **))dlsym(m->handle, "run");
	*function = m;
	return strcmp(name, "search") || !m->run ? 500 : 0;
}

#ifndef INCOMPLETE
int CUDA_OR_HIP(cuLaunchKernel, hipModuleLaunchKernel)(struct module *m, unsigned gx, unsigned gy, unsigned gz,
		unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
	ENTER("Launch");
	if (!gx || gy != 1 || gz != 1 || bx < 1 || bx > 1024 || by != 1 || bz != 1 || shared || stream || extra)
		return INVALID;
	void *here[3];
	for (int i = 0; i < 3; i++)
		here[i] = (char *)*(void **)arguments[i] - ELSEWHERE;
	m->run(gx, bx, here);
	if (KIND == 4 && *(unsigned *)here[2] > 0)
		--*(unsigned *)here[2];
	return 0;
}
#endif

struct program { char *source; char *log; char *code; size_t size; };

static char *slurp(const char *path, size_t head, size_t *size) {
	FILE *f = fopen(path, "r");
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	*size = head + ftell(f);
	rewind(f);
	char *text = calloc(1, *size + 1);
	size_t n = fread(text + head, 1, *size - head, f);
	fclose(f);
	return n == *size - head ? text : NULL;
}

int COMPILER(Version)(int *major, int *minor) { *major = 12; *minor = 3; return 0; }

const char *COMPILER(GetErrorString)(int e) { return e == 6 ? "ERROR_COMPILATION" : "an error of the shim"; }

int COMPILER(CreateProgram)(struct program **p, const char *source, const char *name, int n, char **texts, char **names) {
	*p = calloc(1, sizeof **p);
	(*p)->source = strdup(source);
	return n ? INVALID : 0;
}

int COMPILER(DestroyProgram)(struct program **p) {
	free((*p)->source);
	free((*p)->log);
	free((*p)->code);
	free(*p);
	*p = NULL;
	return 0;
}

// clang compiles a text; family is the file of the general form's generator.
static int clang(const char *text, const char *family, const char *made, const char *log) {
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open(log, O_CREAT | O_WRONLY, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		execl(CLANG, "clang", "-x", "c++", "-O1", "-fPIC", "-shared", "-nostdinc", "-w", "-include", PRELUDE, family, text, "-o", made, (char *)0);
		_exit(127);
	}
	int status = -1;
	return pid < 0 || waitpid(pid, &status, 0) != pid || status ? 6 : 0;
}

// build makes code of a text in a directory of its own, which it removes.
static int build(struct program *p, char *dir, const char *text, const char *family) {
	char made[4096], log[4096];
	snprintf(made, sizeof made, "%s/made", dir);
	snprintf(log, sizeof log, "%s/log", dir);
	int e = clang(text, family, made, log);
	size_t size;
	p->log = slurp(log, 0, &size);
	p->code = e ? NULL : slurp(made, sizeof(struct code), &p->size);
	unlink(made);
	unlink(log);
	rmdir(dir);
	if (!p->code)
		return 6;
	struct code *c = (struct code *)p->code;
	memcpy(c->magic, magic, sizeof magic);
	c->size = p->size - sizeof *c;
	return 0;
}

int COMPILER(CompileProgram)(struct program *p, int n, const char **options) {
	int e = fault("CompileProgram");
	if (e)
		return e;
	if (CUDA_OR_HIP(n != 1 || strcmp(options[0], "--gpu-architecture=sm_86"), n != 0))
		return 5;
	char dir[] = SCRATCH "/XXXXXX", text[] = SCRATCH "/text-XXXXXX";
	int fd = mkstemp(text), size = strlen(p->source);
	if (!mkdtemp(dir) || fd < 0 || write(fd, p->source, size) != size || close(fd))
		return BROKEN;
	e = build(p, dir, text, "-UFAMILY");
	unlink(text);
	return e;
}

// compiled_ptx is what the general source gives for the kind of generator whose PTX the
// text is, or NULL where it is none of them. Each is compiled once.
static struct code *compiled_ptx(const char *text) {
	static struct { const char *family; struct program made; } known[] = {
		{"mt19937"}, {"xorshift32"}, {"lcg32"}, {"lcg31"}, {"lcg48"}, {"lcg64"}, {"mulberry32"}, {"pcg32"}, {"philox4x32"}, {"plus128"},
		{"sfc64"}, {"splitmix64"}, {"xorshift128"}, {"xorshift64"}, {"xoshiro128"}, {"xoshiro256"},
	};
	for (int i = 0; i < sizeof known / sizeof *known; i++) {
		char path[4096], family[256], dir[] = SCRATCH "/XXXXXX";
		size_t size;
		snprintf(path, sizeof path, "%s/kernels/ptx/%s.ptx", SCRATCH, known[i].family);
		char *ptx = slurp(path, 0, &size);
		int is = ptx && !strcmp(ptx, text);
		free(ptx);
		if (!is)
			continue;
		snprintf(family, sizeof family, "-DFAMILY=\"%s.h\"", known[i].family);
		if (!known[i].made.code && (!mkdtemp(dir) || build(&known[i].made, dir, SCRATCH "/kernels/general.cu", family)))
			return NULL;
		return (struct code *)known[i].made.code;
	}
	return NULL;
}

int COMPILER(GetProgramLogSize)(struct program *p, size_t *size) { *size = p->log ? strlen(p->log) + 1 : 1; return 0; }

int COMPILER(GetProgramLog)(struct program *p, char *to) { strcpy(to, p->log ? p->log : ""); return 0; }

int CUDA_OR_HIP(nvrtcGetCUBINSize, hiprtcGetCodeSize)(struct program *p, size_t *size) { *size = p->size; return 0; }

int CUDA_OR_HIP(nvrtcGetCUBIN, hiprtcGetCode)(struct program *p, char *to) { memcpy(to, p->code, p->size); return 0; }

#ifndef HIP
int nvrtcGetPTXSize(struct program *p, size_t *size) { return INVALID; }

int nvrtcGetPTX(struct program *p, char *to) { return INVALID; }

int nvrtcGetNumSupportedArchs(int *n) { *n = 2; return 0; }

int nvrtcGetSupportedArchs(int *archs) { archs[0] = 75; archs[1] = 86; return 0; }
#endif
