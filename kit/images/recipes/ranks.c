/* kit-ranks: do the processes that the launcher started form the job that was planned, and does each have the cores and
 * GPUs that it was given in the plan? Run as the first step of a job, by the same launcher and in the same image as what
 * follows: a fault shows after seconds, not as a result that is quietly wrong.
 *
 *     kit-ranks --ranks 8 --nodes 2 --ranks-per-node 4 --threads 16 --whole-cores --gpus 4 --bind cores
 *
 * Prints one line of JSON for each rank, in their order. Ends 0 if all is as planned; 1, with what is wrong and which key
 * of the site file says it, if not; 2 for bad usage.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef KFD
#define KFD "/sys/class/kfd/kfd/topology/nodes" /* what the kernel knows of AMD's GPUs */
#endif

enum { TEXT = 512, LINE = 4096, GPUS = 64, NAME = 56, SHOWN = 20 };

/* What one rank knows of itself. Sent as bytes: all ranks are the same program. */
struct place {
    char host[TEXT];
    char launcher[TEXT];
    cpu_set_t cores[8]; /* 8,192 processors; one set holds 1,024 */
    cpu_set_t owned[8]; /* those of them that a thread may have to itself */
    int gpus;
    char gpu[GPUS][NAME];
};

static struct {
    int ranks, nodes, ranks_per_node, threads, whole_cores, gpus, bind, timeout;
} want = {0, 1, 0, 1, 0, 0, 0, 120};

static char mpi[TEXT]; /* the MPI of this image, and its version */
static int problems;

/* ---- text ---------------------------------------------------------------------------------------------------------- */

/* Adds to a text of `size` bytes; what does not fit is cut off. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list values;
    va_start(values, format);
    vsnprintf(text + used, size - used, format, values);
    va_end(values);
}

__attribute__((format(printf, 1, 2))) static void problem(const char *format, ...)
{
    char line[LINE] = "kit-ranks: ";
    va_list values;
    if (++problems > SHOWN)
        return;
    va_start(values, format);
    vsnprintf(line + strlen(line), sizeof line - strlen(line) - 1, format, values);
    va_end(values);
    strcat(line, "\n");
    fputs(line, stderr); /* in one piece: strangers write at the same time */
}

/* Numbers in rising order, as ranges: "0-3,8". */
struct ranges {
    char text[TEXT];
    int first, last, count;
};

static void range_end(struct ranges *list)
{
    if (list->count && list->first == list->last)
        add(list->text, sizeof list->text, "%s%d", *list->text ? "," : "", list->last);
    else if (list->count)
        add(list->text, sizeof list->text, "%s%d-%d", *list->text ? "," : "", list->first, list->last);
}

static void range_add(struct ranges *list, int number)
{
    if (!list->count || number != list->last + 1) {
        range_end(list);
        list->first = number;
    }
    list->last = number;
    list->count++;
}

static struct ranges cores_of(const cpu_set_t *cores)
{
    struct ranges list = {0};
    for (int core = 0; core < 8 * CPU_SETSIZE; core++)
        if (CPU_ISSET_S(core, 8 * sizeof *cores, cores))
            range_add(&list, core);
    range_end(&list);
    return list;
}

static void json_string(char *line, size_t size, const char *text)
{
    add(line, size, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            add(line, size, "\\%c", c);
        else
            add(line, size, c < ' ' || c > '~' ? "\\u%04x" : "%c", c);
    }
    add(line, size, "\"");
}

static void print_place(const struct place *place, int rank, int size)
{
    char line[2 * LINE + GPUS * NAME] = "";
    add(line, sizeof line, "{\"rank\":%d,\"size\":%d,\"host\":", rank, size);
    json_string(line, sizeof line, place->host);
    add(line, sizeof line, ",\"cores\":\"%s\",\"gpus\":[", cores_of(place->cores).text);
    for (int i = 0; i < place->gpus; i++) {
        add(line, sizeof line, i ? "," : "");
        json_string(line, sizeof line, place->gpu[i]);
    }
    add(line, sizeof line, "],\"mpi\":");
    json_string(line, sizeof line, mpi);
    add(line, sizeof line, ",\"launcher\":");
    json_string(line, sizeof line, place->launcher);
    add(line, sizeof line, "}\n");
    fputs(line, stdout);
}

/* ---- what the launcher announces ----------------------------------------------------------------------------------- */

/* SIZE: the number of processes. LEAST: those of one node. RANK: a number that counts from 0. The innermost launcher first:
 * mpirun starts its daemons by srun, whose variables the ranks inherit. SLURM_NTASKS is missing: a batch script has it. */
static const struct {
    enum { SIZE, LEAST, RANK } kind;
    const char *name, *by;
} variables[] = {
    {SIZE, "OMPI_COMM_WORLD_SIZE", "as Open MPI's mpirun does"},
    {SIZE, "MV2_COMM_WORLD_SIZE", "as MVAPICH2's launchers do"},
    {SIZE, "PMI_SIZE", "the PMI of MPICH, Intel MPI and Cray MPICH"},
    {SIZE, "JSM_NAMESPACE_SIZE", "as jsrun does"},
    {SIZE, "FLUX_JOB_SIZE", "as Flux does"},
    {SIZE, "SLURM_STEP_NUM_TASKS", "as srun does"},
    {LEAST, "PALS_LOCAL_SIZE", "as the mpiexec of PALS does"},
    {LEAST, "MPI_LOCALNRANKS", "as Hydra does, the launcher of MPICH and Intel MPI"},
    {RANK, "PMIX_RANK", "as PMIx does"},
    {RANK, "PALS_RANKID", "as the mpiexec of PALS does"},
    {RANK, "PMI_RANK", "the PMI of MPICH, Intel MPI and Cray MPICH"},
    {RANK, "ALPS_APP_PE", "as aprun does"},
};

static struct {
    int size; /* at least; 0: nothing is announced */
    char text[TEXT];
} announced;

/* Looked at before MPI_Init, which sets variables of its own in a process that stands alone. */
static void read_announcement(char *found, size_t space)
{
    int exact = 0;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *value = getenv(variables[i].name);
        char *end;
        if (!value || !isdigit((unsigned char)*value))
            continue;
        long number = strtol(value, &end, 10);
        if (*end || number > INT_MAX - 1)
            continue;
        add(found, space, "%s%s=%ld", *found ? " " : "", variables[i].name, number);
        int size = (int)number + (variables[i].kind == RANK);
        if (exact || size <= announced.size)
            continue;
        announced.size = size;
        exact = variables[i].kind == SIZE;
        snprintf(announced.text, sizeof announced.text, "%s %ld by %s, %s", variables[i].kind == RANK ? "rank" : "size",
                 number, variables[i].name, variables[i].by);
    }
}

/* ---- what a rank was given ----------------------------------------------------------------------------------------- */

static void add_gpu(struct place *place, const char *name)
{
    if (place->gpus < GPUS)
        snprintf(place->gpu[place->gpus++], NAME, "%s", name);
}

/* Through the driver, so that what CUDA_VISIBLE_DEVICES and the scheduler hide is not counted. */
static void find_nvidia(struct place *place)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver)
        return;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*count)(int *) = (int (*)(int *))dlsym(driver, "cuDeviceGetCount");
    /* The second version tells the parts of a GPU (MIG) from one another. */
    int (*uuid)(unsigned char *, int) = (int (*)(unsigned char *, int))dlsym(driver, "cuDeviceGetUuid_v2");
    if (!uuid)
        uuid = (int (*)(unsigned char *, int))dlsym(driver, "cuDeviceGetUuid");
    int number = 0;
    if (!init || !count || !uuid || init(0) || count(&number))
        return;
    for (int device = 0; device < number; device++) {
        unsigned char id[16];
        char name[NAME] = "GPU-";
        if (uuid(id, device))
            continue;
        for (int i = 0; i < 16; i++)
            add(name, sizeof name, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
        add_gpu(place, name);
    }
}

static int gpus_before(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

/* Keeps of the GPUs those that a variable names, by number or by name, in its order. */
static void keep_visible(struct place *place, const char *variable)
{
    const char *value = getenv(variable);
    if (!value)
        return;
    struct place all = *place;
    char words[LINE], *rest = words;
    snprintf(words, sizeof words, "%s", value);
    place->gpus = 0;
    for (char *word; (word = strsep(&rest, ","));) {
        char *end;
        long number = strtol(word, &end, 10);
        int found = -1;
        if (end != word && !*end)
            found = number >= 0 && number < all.gpus ? (int)number : -1;
        else
            for (int i = 0; i < all.gpus; i++)
                if (!strcasecmp(word, all.gpu[i]))
                    found = i;
        if (found < 0)
            break; /* as AMD's runtime does: what follows an unknown one is hidden */
        add_gpu(place, all.gpu[found]);
    }
}

/* From the kernel: a process whose scheduler hides a GPU cannot read its properties. */
static void find_amd(struct place *place)
{
    glob_t nodes;
    if (glob(KFD "/*/properties", GLOB_NOSORT, NULL, &nodes))
        return;
    qsort(nodes.gl_pathv, nodes.gl_pathc, sizeof *nodes.gl_pathv, gpus_before);
    for (size_t i = 0; i < nodes.gl_pathc; i++) {
        char word[TEXT], name[NAME];
        unsigned long long value, simd = 0, id = 0, domain = 0, location = 0;
        FILE *file = fopen(nodes.gl_pathv[i], "r");
        if (!file)
            continue;
        while (fscanf(file, "%511s %llu", word, &value) == 2) {
            if (!strcmp(word, "simd_count"))
                simd = value; /* 0: this node is a processor */
            else if (!strcmp(word, "unique_id"))
                id = value;
            else if (!strcmp(word, "domain"))
                domain = value;
            else if (!strcmp(word, "location_id"))
                location = value;
        }
        fclose(file);
        if (!simd)
            continue;
        if (id)
            snprintf(name, sizeof name, "GPU-%016llx", id);
        else /* older GPUs have no such number, but a place on the bus */
            snprintf(name, sizeof name, "PCI-%04llx:%04llx", domain, location);
        add_gpu(place, name);
    }
    globfree(&nodes);
    keep_visible(place, "ROCR_VISIBLE_DEVICES");
    keep_visible(place, "HIP_VISIBLE_DEVICES");
}

/* The lowest hardware thread of the core that this one belongs to; itself, where the kernel does not say. */
static int first_of_core(int thread)
{
    char path[TEXT];
    int first = thread;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return thread;
    if (fscanf(file, "%d", &first) != 1 || first < 0 || first > thread)
        first = thread;
    fclose(file);
    return first;
}

/* The kernel counts hardware threads; where each thread is to have a core of its own, there are fewer. */
static void find_owned(struct place *place)
{
    memcpy(place->owned, place->cores, sizeof place->cores);
    if (!want.whole_cores)
        return;
    CPU_ZERO_S(sizeof place->owned, place->owned);
    for (int thread = 0; thread < 8 * CPU_SETSIZE; thread++)
        if (CPU_ISSET_S(thread, sizeof place->cores, place->cores))
            CPU_SET_S(first_of_core(thread), sizeof place->owned, place->owned);
}

static void look_around(struct place *place)
{
    if (gethostname(place->host, sizeof place->host - 1))
        strcpy(place->host, "unknown");
    if (sched_getaffinity(0, sizeof place->cores, place->cores))
        CPU_ZERO_S(sizeof place->cores, place->cores);
    find_owned(place);
    if (!want.gpus)
        return; /* to ask a driver takes time */
    find_nvidia(place);
    if (!place->gpus)
        find_amd(place);
}

/* ---- what must be refused ------------------------------------------------------------------------------------------ */

#ifdef OPEN_MPI
#define WAY_OUT \
    "launcher = \"mpirun\" with an Open MPI of the site on its PATH (modules), or pmi = \"pmix\" where srun --mpi=list " \
    "names it, or mpi = \"inside\" under [container] for jobs of one node"
#define NETWORK " (OMPI_MCA_btl_tcp_if_include)"
#else
#define NETWORK ""
#define WAY_OUT \
    "launcher = \"mpich\", \"intelmpi\" or \"pals\", or pmi = \"pmi2\" or \"cray_shasta\" where srun --mpi=list names it, " \
    "or mpi = \"inside\" under [container] for jobs of one node"
#endif

/* The number of ranks; the same in every process, so each can say it. Whether all is well. */
static int check_size(int rank, int size, const char *host)
{
    if (size < announced.size)
        problem("%d ranks were asked for, and the MPI of this image (%s) formed a job of %d on %s: the launcher announces "
                "%s. The MPI of the image does not understand this launcher, so the processes are strangers, and each would "
                "do the work of all. In the site file: %s.",
                want.ranks, mpi, size, host, announced.text, WAY_OUT);
    else if (size == want.ranks)
        return 1;
    else if (rank == 0 && !announced.size)
        problem("%d ranks were asked for, and the MPI of this image (%s) formed a job of %d on %s: nothing in the "
                "environment announces a launcher. It was started without one, or by one that the MPI of the image "
                "does not understand. In the site file: %s.",
                want.ranks, mpi, size, host, WAY_OUT);
    else if (rank == 0)
        problem("%d ranks were asked for, and %d were started, the first on %s (%s). In the site file: launcher_args, where "
                "they change the number of ranks; launcher, where it is not the one that was called.",
                want.ranks, size, host, announced.text);
    return 0;
}

static struct place *all; /* on rank 0: the places of all ranks */

static int by_host(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;
    int order = strcmp(all[left].host, all[right].host);
    return order ? order : left - right;
}

static void check_cores(const int *ranks, int count, const char *host)
{
    struct ranges few = {0};
    int fewest = 0, pairs = 0, first = 0, second = 0;
    cpu_set_t both[8];
    for (int i = 0; i < count; i++) {
        const cpu_set_t *mine = all[ranks[i]].owned;
        int cores = CPU_COUNT_S(sizeof both, mine);
        if (cores < want.threads) {
            fewest = few.count && fewest < cores ? fewest : cores;
            range_add(&few, ranks[i]);
        }
        for (int j = 0; j < i; j++) {
            CPU_AND_S(sizeof both, both, mine, all[ranks[j]].owned);
            if (CPU_COUNT_S(sizeof both, both) && !pairs++)
                first = ranks[j], second = ranks[i];
        }
    }
    range_end(&few);
    if (few.count)
        problem("%s %s on %s: bound to %d %s%s, but each rank computes on %d threads. In the site file: cores, "
                "hardware_threads and hyperthreads, as the nodes have them; launcher_args, where they bind otherwise; or "
                "bind = \"none\".",
                few.count > 1 ? "ranks" : "rank", few.text, host, fewest, want.whole_cores ? "whole core" : "core",
                fewest == 1 ? "" : "s", want.threads);
    if (pairs) {
        CPU_AND_S(sizeof both, both, all[first].owned, all[second].owned);
        problem("ranks %d and %d on %s share %s %s%s, so they are not bound to cores of their own. In the site file: "
                "launcher_args, where they bind otherwise; exclusive, where the job was given too few cores; or "
                "bind = \"none\".",
                first, second, host, cores_of(both).count > 1 ? "the cores" : "core", cores_of(both).text,
                pairs > 1 ? ", and they are not the only two" : "");
    }
}

static void check_gpus(const int *ranks, int count, const char *host, const char *here)
{
    int distinct = 0, first = -1, second = -1;
    for (int i = 0; i < count; i++) {
        const struct place *mine = &all[ranks[i]];
        for (int g = 0; g < mine->gpus; g++) {
            int seen = 0;
            for (int j = 0; j <= i; j++)
                for (int h = 0; h < (j < i ? all[ranks[j]].gpus : g); h++)
                    seen = seen || !strcmp(all[ranks[j]].gpu[h], mine->gpu[g]);
            distinct += !seen;
        }
        /* More ranks than GPUs must share them; fewer must not. */
        for (int j = 0; j < i && count <= want.gpus && second < 0; j++) {
            const struct place *other = &all[ranks[j]];
            if (mine->gpus == 1 && other->gpus == 1 && !strcmp(mine->gpu[0], other->gpu[0]))
                first = ranks[j], second = ranks[i];
        }
    }
    if (second >= 0)
        problem("ranks %d and %d on %s each see one GPU, and it is the same, %s. In the site file: gpu_request = \"node\" "
                "or \"gres\", which shows each rank all GPUs of the node; launcher_args or prologue, where they set "
                "CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES.",
                first, second, host, all[first].gpu[0]);
    if (distinct < want.gpus)
        problem("%s %s on %s: GPUs seen, %d; asked of each node, %d. In the site file: gpus, as the nodes have them; "
                "gpu_request, the way this scheduler is asked; args under [container], which must hand the driver in (--nv "
                "or --rocm) where the kit does not.",
                count > 1 ? "ranks" : "rank", here, host, distinct, want.gpus);
}

/* Where the ranks are, and what they have there; on rank 0. */
static void check_places(void)
{
    int *order = malloc((size_t)want.ranks * sizeof *order);
    char hosts[TEXT] = "";
    int nodes = 0;
    if (!order) {
        problem("out of memory for %d ranks", want.ranks);
        return;
    }
    for (int rank = 0; rank < want.ranks; rank++)
        order[rank] = rank;
    qsort(order, (size_t)want.ranks, sizeof *order, by_host);
    for (int from = 0, to; from < want.ranks; from = to, nodes++) {
        const char *host = all[order[from]].host;
        struct ranges here = {0};
        for (to = from; to < want.ranks && !strcmp(all[order[to]].host, host); to++)
            range_add(&here, order[to]);
        range_end(&here);
        add(hosts, sizeof hosts, "%s%s (%s %s)", nodes ? ", " : "", host, here.count > 1 ? "ranks" : "rank", here.text);
        if (here.count > want.ranks_per_node)
            problem("%d ranks are on %s (ranks %s), but %d of each node were asked for. In the site file: order, cyclic or "
                    "block; launcher_args, where they place the ranks otherwise; launcher, where it counts slots that the "
                    "scheduler does not give.",
                    here.count, host, here.text, want.ranks_per_node);
        if (want.bind)
            check_cores(order + from, here.count, host);
        if (want.gpus)
            check_gpus(order + from, here.count, host, here.text);
    }
    if (nodes != want.nodes)
        problem("%d nodes were asked for, and the ranks are on %d: %s. In the site file: launcher, which must be one that "
                "knows the nodes of the job; launcher_args, where they place the ranks otherwise; mpi = \"outside\" under "
                "[container], as only that reaches other nodes.",
                want.nodes, nodes, hosts);
    if (problems > SHOWN)
        fprintf(stderr, "kit-ranks: and %d more\n", problems - SHOWN);
    free(order);
}

/* ---- the program --------------------------------------------------------------------------------------------------- */

static char last_words[LINE]; /* said where MPI hangs; written ahead, since a signal handler can do little */
static int parent = -1;       /* the pipe to the process that the launcher started */

/* Tells the parent that there is nothing left to explain. */
static void dismiss(void)
{
    (void)!write(parent, ".", 1);
}

static void on_alarm(int signal)
{
    (void)signal;
    dismiss();
    (void)!write(STDERR_FILENO, last_words, strlen(last_words));
    _exit(1);
}

/* Where an MPI fails, it ends its process without a chance to say what to do. So a child is the rank, and the process that
 * the launcher started stays behind, to explain the child's end if it was not told that all went well. Returns in the child. */
static void stay_behind(const char *host)
{
    int ends[2], status;
    char word;
    if (pipe2(ends, O_CLOEXEC))
        return;
    pid_t child = fork();
    if (child < 0)
        return;
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        parent = ends[1];
        return;
    }
    close(ends[1]);
    while (waitpid(child, &status, 0) < 0)
        ;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (read(ends[0], &word, 1) == 0) {
        problem("on %s the MPI of this image (%s) could not start, or not reach other nodes; its own words are above. The "
                "launcher announces %s. In the site file: %s; the tables environment and modules, where they set variables "
                "of an MPI, or must, to name the network" NETWORK ".",
                host, mpi, announced.size ? announced.text : "nothing", WAY_OUT);
        code = code ? code : 1;
    }
    _exit(code);
}

static int number(const char *option, const char *text, int least)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || value < least || value > INT_MAX / 2) {
        fprintf(stderr, "kit-ranks: --%s %s: not a number from %d\n", option, text, least);
        exit(2);
    }
    return (int)value;
}

static void read_options(int count, char **words)
{
    static const struct option options[] = {
        {"ranks", required_argument, NULL, 'r'},
        {"nodes", required_argument, NULL, 'n'},
        {"ranks-per-node", required_argument, NULL, 'p'},
        {"threads", required_argument, NULL, 't'},
        {"whole-cores", no_argument, NULL, 'w'},
        {"gpus", required_argument, NULL, 'g'},
        {"bind", required_argument, NULL, 'b'},
        {"timeout", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int option, at = 0;
    while ((option = getopt_long(count, words, "", options, &at)) != -1) {
        const char *name = options[at].name;
        switch (option) {
        case 'r': want.ranks = number(name, optarg, 1); break;
        case 'n': want.nodes = number(name, optarg, 1); break;
        case 'p': want.ranks_per_node = number(name, optarg, 1); break;
        case 't': want.threads = number(name, optarg, 1); break;
        case 'g': want.gpus = number(name, optarg, 0); break;
        case 'w': want.whole_cores = 1; break;
        case 's': want.timeout = number(name, optarg, 1); break;
        case 'b':
            want.bind = !strcmp(optarg, "cores");
            if (want.bind || !strcmp(optarg, "none"))
                break;
            fprintf(stderr, "kit-ranks: --bind %s: neither cores nor none\n", optarg);
            exit(2);
        default: want.ranks = 0; goto usage;
        }
    }
usage:
    if (!want.ranks || optind < count) {
        fputs("usage: kit-ranks --ranks N [--nodes N] [--ranks-per-node N] [--threads N] [--whole-cores] [--gpus N] "
              "[--bind cores|none] [--timeout SECONDS]\n"
              "--whole-cores: a thread is not to share a core with another, where cores have several hardware threads\n",
              stderr);
        exit(2);
    }
    if (!want.ranks_per_node)
        want.ranks_per_node = want.ranks;
}

static void read_version(void)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(text, &length); /* may be asked before MPI_Init */
    text[strcspn(text, ",\n")] = '\0';
    for (char *c = text; *c; c++)
        *c = isspace((unsigned char)*c) ? ' ' : *c;
    snprintf(mpi, sizeof mpi, "%s", text);
}

int main(int count, char **words)
{
    static struct place mine;
    int rank, size, well;
    read_options(count, words);
    read_announcement(mine.launcher, sizeof mine.launcher);
    read_version();
    look_around(&mine);
    snprintf(last_words, sizeof last_words,
             "kit-ranks: on %s the MPI of this image (%s) did not bring %d ranks together within %d seconds. The launcher "
             "announces %s. Other ranks have ended or were never started, or the nodes do not reach one another. In the "
             "site file: %s; the table environment, where the MPI must be told which network to use" NETWORK ".\n",
             mine.host, mpi, want.ranks, want.timeout, announced.size ? announced.text : "nothing", WAY_OUT);
    stay_behind(mine.host);
    signal(SIGALRM, on_alarm);
    alarm((unsigned)want.timeout);

    MPI_Init(NULL, NULL);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (!rank && !(all = malloc((size_t)size * sizeof *all)))
        MPI_Abort(MPI_COMM_WORLD, 1);
    /* The first message: some MPIs look for a way to the other nodes only now. */
    MPI_Gather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, 0, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    dismiss();
    if (!rank) {
        for (int i = 0; i < size; i++)
            print_place(&all[i], i, size);
        fflush(stdout);
    }
    well = check_size(rank, size, mine.host);
    if (well && !rank) {
        check_places();
        well = !problems;
    }
    MPI_Bcast(&well, 1, MPI_INT, 0, MPI_COMM_WORLD); /* no rank ends 0 where another does not */
    MPI_Finalize();
    free(all);
    return !well;
}
