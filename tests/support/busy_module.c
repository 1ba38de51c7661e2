/* A module with the command `busy.module MILLISECONDS`, which blocks the server for that time and lets it reply BUSY. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

typedef struct Context Context;
typedef struct String String;
typedef int Command(Context *, String **, int);

/* The context begins with a function that returns the server's API functions by name. */
static int (*Init)(Context *, const char *, int, int);
static int (*CreateCommand)(Context *, const char *, Command *, const char *, int, int, int);
static int (*StringToLongLong)(const String *, long long *);
static int (*ReplyWithSimpleString)(Context *, const char *);
static void (*Yield)(Context *, int, const char *);

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int busy(Context *context, String **arguments, int count) {
    long long milliseconds = 0;
    if (count == 2) StringToLongLong(arguments[1], &milliseconds);
    for (int64_t end = now() + milliseconds; now() < end;) Yield(context, 2 /* clients get BUSY */, NULL);
    return ReplyWithSimpleString(context, "OK");
}

int RedisModule_OnLoad(Context *context, String **arguments, int count) {
    int (*get)(const char *, void *) = *(void **)context;
    (void)arguments, (void)count;
    if (get("RedisModule_CreateCommand", &CreateCommand) || get("RedisModule_SetModuleAttribs", &Init) ||
        get("RedisModule_StringToLongLong", &StringToLongLong) || get("RedisModule_Yield", &Yield) ||
        get("RedisModule_ReplyWithSimpleString", &ReplyWithSimpleString))
        return 1;
    ((void (*)(Context *, const char *, int, int))Init)(context, "busy", 1, 1);
    return CreateCommand(context, "busy.module", busy, "", 0, 0, 0);
}
