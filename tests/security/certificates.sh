# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Certificates for the tests of TLS, made on the spot by openssl; sourced. Guarantees: nothing is
# read from or written to anywhere but the given folder; keys are good for nothing but the tests.

# certificate_authority FOLDER NAME: FOLDER/NAME.crt signs, NAME.key is its key
certificate_authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj "/CN=$2" -addext 'basicConstraints=critical,CA:TRUE' \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' \
        -keyout "$1/$2.key" -out "$1/$2.crt" 2>>"$1/openssl.log"
}

# certificate FOLDER AUTHORITY NAME SUBJECT-ALT-NAMES [FROM TO]: NAME.key, NAME.crt, and NAME.pem
# with both; good from now on, or in the time given as YYYYMMDDHHMMSSZ.
certificate() {
    local folder=$1 authority=$2 name=$3 names=$4 from to
    from=${5:-$(date -u -d '-1 hour' +%Y%m%d%H%M%SZ)} to=${6:-$(date -u -d '2 days' +%Y%m%d%H%M%SZ)}
    printf '%s\n' '[ca]' 'default_ca=own' '[own]' "database=$folder/$name.db" \
        "new_certs_dir=$folder" 'default_md=sha256' 'policy=any' 'rand_serial=yes' \
        'x509_extensions=leaf' '[any]' 'commonName=supplied' '[leaf]' \
        "subjectAltName=$names" 'basicConstraints=CA:FALSE' >"$folder/$name.conf"
    : >"$folder/$name.db"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
        -keyout "$folder/$name.key" -out "$folder/$name.csr" 2>>"$folder/openssl.log" &&
        openssl ca -batch -notext -config "$folder/$name.conf" -cert "$folder/$authority.crt" \
            -keyfile "$folder/$authority.key" -startdate "$from" -enddate "$to" \
            -in "$folder/$name.csr" -out "$folder/$name.crt" 2>>"$folder/openssl.log" &&
        cat "$folder/$name.key" "$folder/$name.crt" >"$folder/$name.pem"
}

# make_certificates FOLDER PASSWORD: all that the tests of a broker need; client-locked.key is
# client.key behind the password
make_certificates() {
    local here='DNS:localhost,IP:127.0.0.1'
    {
        certificate_authority "$1" ca && certificate_authority "$1" foreign-ca &&
            certificate "$1" ca server "$here" &&
            certificate "$1" ca wrong-name 'DNS:elsewhere.example' &&
            certificate "$1" ca expired "$here" 20200101000000Z 20200102000000Z &&
            certificate "$1" ca client 'DNS:client.example' &&
            certificate "$1" foreign-ca foreign-client 'DNS:client.example' &&
            openssl pkey -in "$1/client.key" -aes256 -passout "pass:$2" \
                -out "$1/client-locked.key" 2>>"$1/openssl.log"
    } || {
        cat "$1/openssl.log" >&2
        return 1
    }
}
