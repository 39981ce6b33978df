/* Answers as NVIDIA's management library would: the functions that are asked, by their documented signatures. */
#include <string.h>
#include <unistd.h>

#ifndef EMPTY
typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} memory_v2;

/* Handles: places in this array. 0 to 2 are GPUs, 3 and 4 parts of GPU 1. */
static char devices[5];
static int place(void *device) { return (int)((char *)device - devices); }

int nvmlInit_v2(void) {
#if defined(MISMATCH)
    return 18;
#elif defined(NOT_LOADED)
    return 9;
#elif defined(HANGS)
    sleep(3600);
#endif
    return 0;
}
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { strncpy(text, "580.65.06", length); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index == 2) return 15; /* lost */
    *device = &devices[index];
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned int length) {
    strncpy(text, place(device) > 2 ? "Fake MIG" : "Fake H100", length);
    return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned int length) {
    strncpy(text, "GPU-?", length);
    text[4] = (char)('0' + place(device));
    return 0;
}
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *memory) {
    (void)device;
    if (memory->version != (sizeof(memory_v2) | 2 << 24)) return 25;
    memory->total = 80ull << 30;
    memory->free = 79ull << 30;
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    *major = 9;
    *minor = 0;
    return 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    *current = *pending = place(device) == 1;
    return 0;
}
/* Three places, of which the one in the middle is empty. */
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) { (void)device; *count = 3; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **part) {
    (void)device;
    if (index == 1) return 6; /* not found */
    *part = &devices[index == 0 ? 3 : 4];
    return 0;
}
#endif
