# relion-accelerated: RELION 3.1.3 for AVX2 and AVX-512 processors, built from source, with CTFFIND 4.1.14.
# Written by `make recipes` from kit/images/recipes/; change it there.

FROM intel/oneapi-hpckit:2025.1.0-0-devel-ubuntu24.04 AS oneapi

FROM debian:trixie-slim AS ctffind

# Debian's own ctffind 4.1.14 hangs or crashes, so it is built from
# the upstream source that Debian keeps

RUN apt-get update && \
    apt-get install -y --no-install-recommends dpkg-dev g++ make libfftw3-dev libtiff-dev libwxgtk3.2-dev && \
    apt-get indextargets --format 'deb-src $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' | sort -u > /etc/apt/sources.list.d/source.list && \
    apt-get update

RUN mkdir -p /usr/src/ctffind && \
    cd /usr/src/ctffind && \
    uri=$(apt-get source --print-uris ctffind | grep -o "http[^']*/ctffind_4.1.14.orig.tar.gz") && \
    /usr/lib/apt/apt-helper download-file "$uri" orig.tar.gz SHA256:5f3eee53267fd1897cc1748d2154f7352452e881bcffd07d049d39a3c3b373b5 && \
    tar -xf orig.tar.gz --strip-components=1

# Two functions are declared bool and return nothing, which today's
# compilers turn into a crash; the instruction set of the building
# machine must not leak into the image

RUN cd /usr/src/ctffind && \
    sed -i -E 's/^bool (ComputeRotationalAverageOfPowerSpectrum|RescaleSpectrumAndRotationalAverage)/void \1/' src/programs/ctffind/ctffind.cpp && \
    ./configure --disable-debugmode --disable-latest-instruction-set CXXFLAGS='-O2 -fpermissive -w' && \
    make -j "$(nproc)" && \
    install -D -s ctffind /opt/ctffind/bin/ctffind

FROM debian:trixie-slim AS ranks

# Looks at the ranks of a job before the work begins; what it refuses
# is in ranks.c

RUN apt-get update && \
    apt-get install -y --no-install-recommends gcc libc6-dev libopenmpi-dev

COPY kit/images/recipes/ranks.c /usr/src/ranks.c

RUN mpicc -std=gnu17 -O2 -s /usr/src/ranks.c -o /usr/local/bin/kit-ranks

FROM debian:trixie-slim AS relion

RUN apt-get update && \
    apt-get install -y --no-install-recommends cmake dpkg-dev g++ ninja-build libopenmpi-dev libfftw3-dev libtbb-dev libtiff-dev libpng-dev zlib1g-dev && \
    apt-get indextargets --format 'deb-src $(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' | sort -u > /etc/apt/sources.list.d/source.list && \
    apt-get update

RUN mkdir -p /usr/src/relion && \
    cd /usr/src/relion && \
    uri=$(apt-get source --print-uris relion | grep -o "http[^']*/relion_3.1.3.orig.tar.gz") && \
    /usr/lib/apt/apt-helper download-file "$uri" orig.tar.gz SHA256:f10934058e0670807b7004899d7b5103c21ad77841219352c66a33f98586d42e && \
    tar -xf orig.tar.gz --strip-components=1

# Our own kernels, and where RELION hands over to them: each change is
# explained in patch.sh

COPY kit/images/recipes/relion_accelerated/source /opt/build

RUN /opt/build/patch.sh /usr/src/relion /opt/build

# The compilers of oneAPI beside Debian's libraries, so that the final
# stage is the same

COPY --from=oneapi /opt/intel /opt/intel

# A shared library is compiled once for sixty programs; it finds
# itself beside them

RUN export OMPI_CC=/opt/intel/oneapi/compiler/latest/bin/icx OMPI_CXX=/opt/intel/oneapi/compiler/latest/bin/icpx && \
    export MKLROOT=/opt/intel/oneapi/mkl/latest && \
    cmake -G Ninja -S /usr/src/relion -B /usr/src/build -DCMAKE_INSTALL_PREFIX=/opt/relion -DALTCPU=ON -DCUDA=OFF -DGUI=OFF -DDoublePrec_CPU=ON -DDoublePrec_ACC=OFF -DBUILD_SHARED_LIBS=ON -DCMAKE_POLICY_VERSION_MINIMUM=3.5 -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-DNDEBUG -DCMAKE_C_COMPILER=/opt/intel/oneapi/compiler/latest/bin/icx -DCMAKE_CXX_COMPILER=/opt/intel/oneapi/compiler/latest/bin/icpx -DMKLFFT=ON -DCMAKE_C_FLAGS='-O2 -march=x86-64-v3 -w' -DCMAKE_CXX_FLAGS='-O2 -march=x86-64-v3 -w' && \
    ninja -C /usr/src/build && \
    ninja -C /usr/src/build install > /dev/null && \
    { find /opt/relion -type f -exec strip --strip-unneeded {} + 2> /dev/null || true; }

FROM debian:trixie-slim

# Only what runs; the same libraries as relion-basic, and oneTBB

RUN apt-get update && \
    apt-get install -y --no-install-recommends libopenmpi40 openmpi-bin libfftw3-double3 libfftw3-single3 libtbb12 libtiff6 libpng16-16t64 libgomp1 ghostscript libwxbase3.2-1t64 && \
    find /usr/share/doc -type f ! -name copyright -delete && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* /usr/share/man/* /usr/share/locale/* /usr/share/info/*

COPY --from=relion /opt/relion /opt/relion

COPY --from=relion /opt/intel/oneapi/compiler/latest/lib /opt/intel/lib

COPY --from=relion /opt/intel/oneapi/mkl/latest/lib /opt/intel/mkl/lib

COPY --from=ctffind /opt/ctffind/bin/ctffind /usr/local/bin/ctffind

COPY --from=ranks /usr/local/bin/kit-ranks /usr/local/bin/kit-ranks

COPY kit/images/recipes/relion_accelerated/selftest.sh /opt/kit/selftest.sh

# RELION starts CTFFIND through csh unless told otherwise; containers
# are often entered as root

ENV LC_ALL=C.UTF-8 \
    LD_LIBRARY_PATH=/opt/intel/lib:/opt/intel/mkl/lib \
    OMPI_ALLOW_RUN_AS_ROOT=1 \
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    PATH=/opt/relion/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    RELION_CTFFIND_EXECUTABLE=/usr/local/bin/ctffind \
    RELION_SHELL=sh

# The image lists what is in it, with the licences; kit image sbom
# reads it

RUN mkdir -p /opt/kit/inventory && \
    cd /opt/kit/inventory && \
    dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n' > debian.tsv && \
    for f in /usr/share/doc/*/copyright; do p=${f%/copyright}; sed -n "s/^License: *\(..*\)/${p##*/}\t\1/p" "$f"; done | sort -u > licenses.tsv && \
    if [ -e /opt/venv/inventory.tsv ]; then cp /opt/venv/inventory.tsv python.tsv; fi && \
    printf 'relion\t3.1.3\tf10934058e0670807b7004899d7b5103c21ad77841219352c66a33f98586d42e\tGPL-2.0-or-later\nctffind\t4.1.14\t5f3eee53267fd1897cc1748d2154f7352452e881bcffd07d049d39a3c3b373b5\tLicenseRef-Janelia-1.2\n' > sources.tsv

LABEL kit.argument.fft="mkl" \
    kit.argument.flags="-O2 -march=x86-64-v3" \
    kit.argument.toolchain="oneapi" \
    org.opencontainers.image.base.name=debian:trixie-slim \
    org.opencontainers.image.description="RELION 3.1.3 for AVX2 and AVX-512 processors, built from source, with CTFFIND 4.1.14" \
    org.opencontainers.image.licenses="GPL-2.0-or-later AND LicenseRef-Janelia-1.2" \
    org.opencontainers.image.title=relion-accelerated \
    org.opencontainers.image.vendor="kit 0.1.0" \
    org.opencontainers.image.version=3.1.3

HEALTHCHECK --interval=1h --timeout=2m CMD ["/opt/kit/selftest.sh"]
