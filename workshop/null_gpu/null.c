/* A CUDA device that computes nothing, in place of the driver and before CUDA's libraries: its memory is the host's,
   copies are copies, streams and events are done at once, and a kernel that is launched is counted. What stands here
   gives an answer; all else that torch calls is a stub that says success (__main__.py writes those). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
/* The wheels have the headers of types, but not what these include. */
#define __device_builtin__
#define __cudart_builtin__
#define __device_builtin_texture_type__
#define __host__
#define __device__
#define CUDARTAPI
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#include "vector_types.h"
#include "driver_types.h"
#define API __attribute__((visibility("default"))) int
#define TEXT __attribute__((visibility("default"))) const char*

/* An H200: 9.0, 132 multiprocessors, 139.8 GiB, of which the host gives what is touched. */
static const size_t WHOLE = 139ull << 30;
static const char NAME[] = "NVIDIA H200 (null)";
static int attribute(int which) {
    static const int known[][2] = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536},
        {10, 32}, {12, 65536}, {13, 1980000}, {14, 512}, {15, 1}, {16, 132}, {31, 1}, {36, 3201000}, {37, 6144},
        {38, 62914560}, {39, 2048}, {40, 3}, {41, 1}, {75, 9}, {76, 0}, {78, 1}, {81, 233472}, {82, 65536}, {83, 1},
        {88, 1}, {89, 1}, {95, 1}, {97, 232448}, {106, 32}, {111, 1024}, {115, 1}, {120, 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i][0] == which) return known[i][1];
    return 0;
}

/* Memory: blocks of the device and pinned ones of the host. */
struct block { char* start; size_t bytes; int pinned; };
static struct block blocks[1 << 16];
static int count;
static size_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void note(void* start, size_t bytes, int pinned) {
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < count && blocks[i].start) i++;
    if (i == count) count++;
    blocks[i] = (struct block){start, bytes, pinned};
    if (!pinned) used += bytes;
    pthread_mutex_unlock(&lock);
}
static struct block forget(void* start) {
    struct block found = {0};
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count && start; i++)
        if (blocks[i].start == start) { found = blocks[i]; blocks[i].start = NULL; break; }
    if (found.start && !found.pinned) used -= found.bytes;
    pthread_mutex_unlock(&lock);
    return found;
}
static int kind(const char* p) { /* cudaMemoryType: 0 of neither, 1 pinned, 2 of the device */
    for (int i = 0; i < count; i++)
        if (blocks[i].start && p >= blocks[i].start && p < blocks[i].start + blocks[i].bytes)
            return blocks[i].pinned ? 1 : 2;
    return 0;
}
API cudaMalloc(void** p, size_t n) {
    if (used + n > WHOLE) return cudaErrorMemoryAllocation;
    *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*p == MAP_FAILED) return cudaErrorMemoryAllocation;
    note(*p, n, 0);
    return 0;
}
API cudaFree(void* p) { struct block b = forget(p); if (b.start) munmap(b.start, b.bytes); return 0; }
API cudaHostAlloc(void** p, size_t n, unsigned flags) {
    if (posix_memalign(p, 4096, n ? n : 1)) return cudaErrorMemoryAllocation;
    note(*p, n, 1);
    return 0;
}
API cudaFreeHost(void* p) { free(forget(p).start); return 0; }
API cudaMemGetInfo(size_t* left, size_t* whole) { *whole = WHOLE; *left = WHOLE - used; return 0; }
API cudaPointerGetAttributes(struct cudaPointerAttributes* a, const void* p) {
    int what = kind(p);
    *a = (struct cudaPointerAttributes){.type = what, .device = what ? 0 : -2};
    a->devicePointer = what ? (void*)p : NULL;
    a->hostPointer = what == 1 ? (void*)p : NULL;
    return 0;
}
API cudaMemcpy(void* to, const void* from, size_t n, int direction) { memmove(to, from, n); return 0; }
API cudaMemcpyAsync(void* to, const void* from, size_t n, int direction, void* s) { memmove(to, from, n); return 0; }
/* Memory that no kernel has written need not be cleared: small counters are. */
API cudaMemset(void* p, int value, size_t n) { if (n < 4096) memset(p, value, n); return 0; }
API cudaMemsetAsync(void* p, int value, size_t n, void* s) { return cudaMemset(p, value, n); }

/* The device. */
API cudaGetDeviceCount(int* n) { *n = 1; return 0; }
API cudaGetDevice(int* device) { *device = 0; return 0; }
API cudaDriverGetVersion(int* v) { *v = 13000; return 0; }
API cudaRuntimeGetVersion(int* v) { *v = 13000; return 0; }
API cudaDeviceGetAttribute(int* v, int which, int device) { *v = attribute(which); return 0; }
API cudaGetDeviceProperties(struct cudaDeviceProp* p, int device) {
    *p = (struct cudaDeviceProp){
        .totalGlobalMem = WHOLE, .sharedMemPerBlock = 49152, .regsPerBlock = 65536, .warpSize = 32,
        .maxThreadsPerBlock = 1024, .maxThreadsDim = {1024, 1024, 64}, .maxGridSize = {2147483647, 65535, 65535},
        .totalConstMem = 65536, .major = 9, .textureAlignment = 512, .multiProcessorCount = 132,
        .canMapHostMemory = 1, .concurrentKernels = 1, .pciBusID = 1, .asyncEngineCount = 3, .unifiedAddressing = 1,
        .memoryBusWidth = 6144, .l2CacheSize = 62914560, .maxThreadsPerMultiProcessor = 2048,
        .sharedMemPerMultiprocessor = 233472, .regsPerMultiprocessor = 65536, .managedMemory = 1,
        .sharedMemPerBlockOptin = 232448, .maxBlocksPerMultiProcessor = 32, .reservedSharedMemPerBlock = 1024};
    strcpy(p->name, NAME);
    return 0;
}
API cudaDeviceCanAccessPeer(int* can, int a, int b) { *can = 0; return 0; }
API cudaDeviceGetStreamPriorityRange(int* low, int* high) { if (low) *low = 0; if (high) *high = -5; return 0; }
API cudaDeviceGetPCIBusId(char* text, int length, int device) { snprintf(text, length, "0000:01:00.0"); return 0; }
TEXT cudaGetErrorString(int error) { return error == 2 ? "out of memory" : "error of the null device"; }
TEXT cudaGetErrorName(int error) { return error == 2 ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown"; }

/* Streams and events. */
static long streams = 0x1000;
API cudaStreamCreate(void** s) { *s = (void*)(streams += 16); return 0; }
API cudaStreamCreateWithFlags(void** s, unsigned flags) { return cudaStreamCreate(s); }
API cudaStreamCreateWithPriority(void** s, unsigned flags, int priority) { return cudaStreamCreate(s); }
API cudaStreamGetPriority(void* s, int* priority) { *priority = 0; return 0; }
API cudaStreamIsCapturing(void* s, int* is) { *is = 0; return 0; }
API cudaStreamGetCaptureInfo(void* s, int* is) { if (is) *is = 0; return 0; }
API cudaEventCreateWithFlags(void** e, unsigned flags) { *e = calloc(1, sizeof(struct timespec)); return 0; }
API cudaEventCreate(void** e) { return cudaEventCreateWithFlags(e, 0); }
API cudaEventDestroy(void* e) { free(e); return 0; }
API cudaEventRecord(void* e, void* s) { clock_gettime(CLOCK_MONOTONIC, e); return 0; }
API cudaEventRecordWithFlags(void* e, void* s, unsigned flags) { return cudaEventRecord(e, s); }
API cudaEventElapsedTime(float* ms, struct timespec* a, struct timespec* b) {
    *ms = (b->tv_sec - a->tv_sec) * 1e3 + (b->tv_nsec - a->tv_nsec) / 1e6;
    return 0;
}

/* Kernels: torch's own, those of CUDA's libraries, and Triton's. */
static long launched;
__attribute__((visibility("default"))) long null_launched(void) { return launched; }
static int launch(void) { __atomic_add_fetch(&launched, 1, __ATOMIC_RELAXED); return 0; }
API cudaLaunchKernel() { return launch(); }
API __cudaLaunchKernel() { return launch(); }
API cudaLaunchKernelExC() { return launch(); }
API cuLaunchKernel() { return launch(); }
API cuLaunchKernelEx() { return launch(); }
API cublasGemmEx() { return launch(); }
API cublasSgemm_v2() { return launch(); }
API cublasLtMatmul() { return launch(); }
API __cudaGetKernel(void** kernel, const void* handle) { *kernel = (void*)handle; return 0; }
API cudaFuncGetAttributes(struct cudaFuncAttributes* a, const void* f) {
    *a = (struct cudaFuncAttributes){.maxThreadsPerBlock = 1024, .numRegs = 32, .ptxVersion = 90, .binaryVersion = 90,
                                     .maxDynamicSharedSizeBytes = 49152};
    return 0;
}
API cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void* f, int threads, size_t s, unsigned l) {
    *n = 2048 / (threads ? threads : 1);
    return 0;
}
API cudaGetSymbolAddress(void** p, const void* symbol) { *p = calloc(1, 65536); return 0; }

/* The driver. */
API untold() { return 0; }
static void* function(const char* name) { void* f = dlsym(RTLD_DEFAULT, name); return f ? f : (void*)untold; }
API cudaGetDriverEntryPointByVersion(const char* name, void** f, unsigned v, unsigned long long flags, int* found) {
    *f = function(name);
    if (found) *found = 0;
    return 0;
}
API cuGetProcAddress(const char* name, void** f, int v, unsigned long long flags, int* found) {
    return cudaGetDriverEntryPointByVersion(name, f, v, flags, found);
}
API cuDriverGetVersion(int* v) { *v = 13000; return 0; }
API cuDeviceGetCount(int* n) { *n = 1; return 0; }
API cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
API cuDeviceGetAttribute(int* v, int which, int device) { *v = attribute(which); return 0; }
API cuDeviceGetName(char* text, int length, int device) { snprintf(text, length, "%s", NAME); return 0; }
API cuDevicePrimaryCtxGetState(int d, unsigned* flags, int* on) { if (flags) *flags = 0; if (on) *on = 1; return 0; }
API cuDevicePrimaryCtxRetain(void** context, int device) { *context = (void*)0x10; return 0; }
API cuCtxGetCurrent(void** context) { *context = (void*)0x10; return 0; }
API cuCtxGetDevice(int* device) { *device = 0; return 0; }
API cuModuleLoadData(void** module, const void* image) { *module = malloc(8); return 0; }
API cuModuleLoadDataEx(void** module, const void* image) { return cuModuleLoadData(module, image); }
API cuModuleGetFunction(void** f, void* module, const char* name) { *f = malloc(8); return 0; }
API cuFuncGetAttribute(int* v, int which, void* f) { *v = which == 0 ? 1024 : which == 4 ? 32 : 0; return 0; }
API cuGetErrorString(int error, const char** text) { *text = "error of the null device"; return 0; }
API cuGetErrorName(int error, const char** text) { return cuGetErrorString(error, text); }
API cuOccupancyMaxActiveClusters(int* n, void* f, void* config) { *n = 1; return 0; }
API cuPointerGetAttribute(void* value, int which, unsigned long long p) {
    if (which == 3) *(unsigned long long*)value = p; /* the device's pointer; else the kind of memory */
    else *(int*)value = 2;
    return 0;
}

/* Handles of libraries, and one way of multiplying. */
API cublasCreate_v2(void** handle) { *handle = malloc(8); return 0; }
API cublasLtCreate(void** handle) { *handle = malloc(8); return 0; }
API cudnnCreate(void** handle) { *handle = malloc(8); return 0; }
API cublasGetPointerMode_v2(void* handle, int* mode) { *mode = 0; return 0; }
API cublasGetMathMode(void* handle, int* mode) { *mode = 0; return 0; }
API cublasGetVersion_v2(void* handle, int* v) { *v = 130000; return 0; }
API cublasLtMatmulPreferenceInit_internal(void* preference, size_t n) { memset(preference, 0, n); return 0; }
API cublasLtMatmulAlgoGetHeuristic(void* handle, void* of, void* a, void* b, void* c, void* d, void* preference,
                                   int wanted, char* found, int* count) {
    memset(found, 0, 96); /* cublasLtMatmulHeuristicResult_t */
    *count = 1;
    return 0;
}
