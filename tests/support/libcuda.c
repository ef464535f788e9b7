/* A CUDA driver without a GPU: "device memory" is the heap, a stream does its work at once, a graph keeps what was recorded and
 * does it again at each launch. It is as strict as the real one where that matters here: calls need a current context in the
 * calling thread (201), addresses must have been allocated (700), synchronising while recording is an error (900).
 * Names and prototypes are those of cuda.h; where that file exists the test compiles with -DWITH_HEADER to have them checked.
 */
#define _GNU_SOURCE
#ifdef WITH_HEADER
#include <cuda.h>
#else
#include <stddef.h>
typedef int CUresult, CUdevice, CUdevice_attribute, CUstreamCaptureMode;
typedef unsigned long long CUdeviceptr, cuuint64_t;
typedef struct ctx *CUcontext;
typedef struct stream *CUstream;
typedef struct event *CUevent;
typedef struct graph *CUgraph;
typedef struct graph *CUgraphExec;
typedef int CUdriverProcAddressQueryResult;
typedef void (*CUhostFn)(void *);
#endif
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct op { int kind; void *to; const void *from; size_t bytes; CUhostFn run; void *data; };
struct recording { struct op ops[256]; int count; };
struct block { char *at; size_t bytes; };

static int context_object, retained, capturing;
static _Thread_local int depth;
static struct block blocks[256];
static struct recording *current;

static int known(const void *at, size_t bytes) {
    for (int i = 0; i < 256; i++)
        if (blocks[i].at && (char *)at >= blocks[i].at && (char *)at + bytes <= blocks[i].at + blocks[i].bytes) return 1;
    return 0;
}
static void *take(size_t bytes) {
    for (int i = 0; i < 256; i++)
        if (!blocks[i].at) {
            blocks[i].at = malloc(bytes);
            blocks[i].bytes = bytes;
            memset(blocks[i].at, 0xA5, bytes); /* fresh memory holds anything but zeros */
            return blocks[i].at;
        }
    return NULL;
}
static CUresult give(void *at) {
    for (int i = 0; i < 256; i++)
        if (blocks[i].at == at) { free(at); blocks[i].at = NULL; return 0; }
    return 1;
}
static CUresult put(struct op op) {
    if (!depth) return 201;
    if (op.kind == 0 && (!known(op.to, op.bytes) || !known(op.from, op.bytes))) return 700;
    if (capturing) { current->ops[current->count++] = op; return 0; }
    if (op.kind == 0) memcpy(op.to, op.from, op.bytes); else op.run(op.data);
    return 0;
}

CUresult cuInit(unsigned int flags) { return getenv("FAKE_CUDA_INIT") ? (CUresult)atoi(getenv("FAKE_CUDA_INIT")) : 0; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return 0; }
CUresult cuDeviceGetCount(int *count) { *count = getenv("FAKE_CUDA_COUNT") ? atoi(getenv("FAKE_CUDA_COUNT")) : 1; return 0; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { *device = 0; return ordinal ? 101 : 0; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { snprintf(name, (size_t)length, "Fake Orin"); return 0; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { *bytes = (size_t)8 << 30; return 0; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    switch ((int)attribute) {
    case 75: *value = 8; break;
    case 76: *value = 7; break;
    case 16: *value = 8; break;
    default: *value = 1;
    }
    return 0;
}
CUresult cuGetErrorName(CUresult error, const char **text) {
    *text = error == 100 ? "CUDA_ERROR_NO_DEVICE" : error == 201 ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR_FAKE";
    return 0;
}
CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { retained++; *context = (CUcontext)&context_object; return 0; }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { return retained-- > 0 ? 0 : 201; }
CUresult cuCtxPushCurrent_v2(CUcontext context) { depth++; return context == (CUcontext)&context_object ? 0 : 201; }
CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    if (!depth) return 201;
    depth--;
    if (context) *context = (CUcontext)&context_object;
    return 0;
}
CUresult cuCtxGetCurrent(CUcontext *context) { *context = depth ? (CUcontext)&context_object : NULL; return 0; }
CUresult cuCtxGetDevice(CUdevice *device) { *device = 0; return depth ? 0 : 201; }
CUresult cuCtxSynchronize(void) { return capturing ? 900 : depth ? 0 : 201; }
CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes) { if (!depth) return 201; *at = (CUdeviceptr)take(bytes); return 0; }
CUresult cuMemFree_v2(CUdeviceptr at) { return depth ? give((void *)at) : 201; }
CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned int flags) { if (!depth) return 201; *at = take(bytes); return 0; }
CUresult cuMemFreeHost(void *at) { return depth ? give(at) : 201; }
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *at, unsigned int flags) { *device = (CUdeviceptr)at; return known(at, 1) ? 0 : 1; }
CUresult cuStreamCreate(CUstream *stream, unsigned int flags) { *stream = (CUstream)malloc(8); return depth ? 0 : 201; }
CUresult cuStreamDestroy_v2(CUstream stream) { free(stream); return depth ? 0 : 201; }
CUresult cuStreamSynchronize(CUstream stream) { return capturing ? 900 : depth ? 0 : 201; }
CUresult cuEventCreate(CUevent *event, unsigned int flags) { *event = (CUevent)malloc(sizeof(struct timespec)); return depth ? 0 : 201; }
CUresult cuEventDestroy_v2(CUevent event) { free(event); return depth ? 0 : 201; }
CUresult cuEventRecord(CUevent event, CUstream stream) { clock_gettime(CLOCK_MONOTONIC, (struct timespec *)event); return depth ? 0 : 201; }
CUresult cuEventSynchronize(CUevent event) { return 0; }
CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end) {
    struct timespec *a = (struct timespec *)start, *b = (struct timespec *)end;
    *ms = (float)((b->tv_sec - a->tv_sec) * 1e3 + (b->tv_nsec - a->tv_nsec) / 1e6);
    return 0;
}
#undef cuEventElapsedTime
CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) { return cuEventElapsedTime_v2(ms, start, end); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    return put((struct op){0, (void *)to, from, bytes, NULL, NULL});
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return put((struct op){0, to, (void *)from, bytes, NULL, NULL});
}
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn run, void *data) { return put((struct op){1, NULL, NULL, 0, run, data}); }
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    if (!depth) return 201;
    if (capturing) return 901;
    capturing = 1;
    current = calloc(1, sizeof *current);
    return 0;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    if (!capturing) return 901;
    capturing = 0;
    *graph = (CUgraph)current;
    return 0;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
    struct recording *copy = malloc(sizeof *copy);
    *copy = *(struct recording *)graph;
    *executable = (CUgraphExec)copy;
    return 0;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    struct recording *recorded = (struct recording *)executable;
    if (!depth) return 201;
    for (int i = 0; i < recorded->count; i++) {
        CUresult result = put(recorded->ops[i]);
        if (result) return result;
    }
    return 0;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) { free(executable); return 0; }
CUresult cuGraphDestroy(CUgraph graph) { free(graph); return 0; }
CUresult cuGetProcAddress_v2(const char *symbol, void **at, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status) {
    char newer[200];
    snprintf(newer, sizeof newer, "%s_v2", symbol);
    *at = dlsym(RTLD_DEFAULT, newer);
    if (!*at) *at = dlsym(RTLD_DEFAULT, symbol);
    if (status) *status = *at ? 0 : 1;
    return *at ? 0 : 500;
}
CUresult fake_retained(void) { return retained; }
CUresult fake_blocks(void) { int n = 0; for (int i = 0; i < 256; i++) n += blocks[i].at != NULL; return n; }
