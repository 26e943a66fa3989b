# shellcheck shell=bash disable=SC2154
# The proxies that proxy.sh compares, and how to start each. Sourced by proxy.sh.
#
# A serve_ function starts one proxy that listens on $port and sets $started to its process. Arguments: the prefix of its files in
# $work, its protocol, the port of the server it forwards to (forward only), and its threads; some functions take more. Other
# variables are set by proxy.sh.

# nginx finds its modules there.
modules=${NGINX_MODULES:-/usr/lib/nginx/modules}

run_nginx() {
    local name=$1 workers=$2 settings=$3
    {
        [[ ! -e $modules/ngx_stream_module.so ]] || echo "load_module $modules/ngx_stream_module.so;"
        echo "worker_processes $workers; daemon off; pid $work/$name.pid; error_log stderr crit;"
        echo "events { worker_connections 4096; }"
        echo "$settings"
    } >"$work/$name.conf"
    start "$whole" "$name" nginx -p "$work" -e stderr -c "$work/$name.conf"
}

# The server for wrk.
run_nginx_origin() {
    run_nginx nginx 1 "http { access_log off; keepalive_requests 1000000000; client_body_temp_path $work/t1;
        proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
        server { listen 127.0.0.1:$port backlog=1024; location / { default_type text/plain; return 200 hello; } } }"
}

# serve_bench … PROGRAM OPTION...
serve_bench() {
    local name=$1 kind=$2 to=$3 count=$4 program=$5 how=()
    shift 5
    if [[ $kind == forward ]]; then how=(--forward "127.0.0.1:$to"); else how=(--protocol "$kind"); fi
    start "$whole" "$name" "$program" proxy serve --listen "127.0.0.1:$port" --threads "$count" "${how[@]}" "$@"
}

# serve_haproxy … OPTION...
serve_haproxy() {
    local name=$1 to=$3 count=$4 option
    shift 4
    {
        printf '%s\n' global "nbthread $count" 'maxconn 4096' defaults 'mode tcp' \
            'timeout connect 5s' 'timeout client 60s' 'timeout server 60s'
        for option; do echo "option $option"; done
        printf '%s\n' 'listen proxy' "bind 127.0.0.1:$port" "server target 127.0.0.1:$to"
    } >"$work/$name.conf"
    start "$whole" "$name" haproxy -db -f "$work/$name.conf"
}

# serve_nginx … BUFFER
serve_nginx() {
    run_nginx "$1" "$4" "stream { server { listen 127.0.0.1:$port backlog=1024 reuseport; proxy_pass 127.0.0.1:$3; proxy_buffer_size $5; } }"
}

serve_socat() {
    start "$whole" "$1" socat -b 65536 \
        "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork,backlog=1024,nodelay" "TCP:127.0.0.1:$3,nodelay"
}

# Tokio threads.
serve_realm() {
    start "$whole" "$1" env TOKIO_WORKER_THREADS="$4" realm -l "127.0.0.1:$port" -r "127.0.0.1:$3"
}

# Go threads. By default it logs every connection.
serve_gost() {
    local as
    case $2 in
        forward) as="tcp://127.0.0.1:$port/127.0.0.1:$3" ;;
        socks5) as="socks5://127.0.0.1:$port" ;;
        connect) as="http://127.0.0.1:$port" ;;
    esac
    start "$whole" "$1" env GOMAXPROCS="$4" GOST_LOGGER_LEVEL=error gost -L "$as"
}

serve_dante() {
    cat >"$work/$1.conf" <<END
logoutput: stderr
internal: 127.0.0.1 port = $port
external: 127.0.0.1
clientmethod: none
socksmethod: none
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
END
    start "$whole" "$1" danted -f "$work/$1.conf" -p "$work/$1.pid"
}

serve_microsocks() { start "$whole" "$1" microsocks -i 127.0.0.1 -p "$port"; }

serve_3proxy() {
    local service=proxy
    [[ $2 == connect ]] || service=socks
    printf '%s\n' 'maxconn 4096' 'auth none' "$service -i127.0.0.1 -p$port" >"$work/$1.conf"
    start "$whole" "$1" 3proxy "$work/$1.conf"
}

serve_tinyproxy() {
    printf '%s\n' "Port $port" 'Listen 127.0.0.1' 'Allow 127.0.0.1' 'MaxClients 4096' 'Timeout 60' 'LogLevel Critical' >"$work/$1.conf"
    start "$whole" "$1" tinyproxy -d -c "$work/$1.conf"
}

# enter_bench PROTOCOL THREADS JOBS: enters bench. Variants of the forwarding method run bulk jobs only, blocklists request jobs
# only.
enter_bench() {
    local kind=$1 count=$2 with=$3
    contender 'bench mio' "$kind" "$count" "$with" bench "$bench"
    contender 'bench uring' "$kind" "$count" "$with" bench "$bench" --engine uring
    contender 'bench listed' "$kind" "$count" requests bench "$bench" --blocklist "$work/blocklist"
    [[ $kind != forward ]] || contender 'bench splice' "$kind" "$count" bulk bench "$bench" --forwarding splice
    [[ -n $base ]] || return 0
    contender 'base mio' "$kind" "$count" "$with" bench "$base"
    contender 'base uring' "$kind" "$count" "$with" bench "$base" --engine uring
}

enter_nginx() {
    if [[ ! -e $modules/ngx_stream_module.so && $(nginx -V 2>&1) != *--with-stream' '* ]]; then
        skip_peer "nginx stream: no ngx_stream_module.so in $modules (set NGINX_MODULES)"
        return
    fi
    each_count nginx forward all nginx 65483
    each_count 'nginx 16k' forward bulk nginx 16k
}

# each_count NAME PROTOCOL JOBS SERVE ARGUMENT...: a contender for each number of threads.
each_count() {
    local name=$1 kind=$2 count
    shift 2
    for count in "${threads[@]}"; do contender "$name" "$kind" "$count" "$@"; done
}

# Proxies without a threads option are entered with 1 thread only. Bulk data over CONNECT equals that over SOCKS5 and is not
# measured separately.
enter_all() {
    local count
    for count in "${threads[@]}"; do
        enter_bench forward "$count" all
        enter_bench socks5 "$count" all
        enter_bench connect "$count" requests
    done
    if have haproxy; then
        each_count haproxy forward all haproxy splice-auto
        each_count 'haproxy splice' forward bulk haproxy splice-request splice-response
    fi
    if have nginx; then enter_nginx; fi
    if have socat; then contender socat forward 1 all socat; fi
    if have realm; then each_count realm forward all realm; fi
    if have gost; then
        each_count gost forward all gost
        each_count gost socks5 all gost
        each_count gost connect requests gost
    fi
    if have danted dante; then contender dante socks5 1 all dante; fi
    if have microsocks; then contender microsocks socks5 1 all microsocks; fi
    if have 3proxy; then
        contender 3proxy socks5 1 all 3proxy
        contender 3proxy connect 1 requests 3proxy
    fi
    if have tinyproxy; then contender tinyproxy connect 1 requests tinyproxy; fi
}
