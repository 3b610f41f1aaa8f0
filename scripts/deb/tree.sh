# shellcheck shell=bash disable=SC2154 # what its readers set: below
# What edged puts on a box, below $tree: read by scripts/build-deb and by scripts/install, so that there is one list of it.
#
# They say in $builder which Python has pip, and hatchling for edged's own wheel; in $work where there is room; and in
# $onnxruntime which wheel of a vendor's comes in place of the locked one, if any.

pip() { "$builder" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

put() { # put MODE FILE PLACE
  install -D -m "$1" "$2" "$tree/$3"
}

put_packages() { # put_packages SITE PIP-OPTION...: the locked wheels and edged's own, and what no daemon has a use for taken out
  local site=$1 lock=$work/requirements.lock
  local into=(--target "$site" --no-compile --only-binary :all: --no-deps "${@:2}")
  cp requirements.lock "$lock"
  if [ -n "$onnxruntime" ]; then # without the lock's paragraph of the other one
    awk '/^[^ #]/ { theirs = /^onnxruntime==/ } !theirs' requirements.lock >"$lock"
  fi
  pip install "${into[@]}" --require-hashes --requirement "$lock"
  pip wheel --no-deps --no-build-isolation --no-index --wheel-dir "$work" .
  rm -rf "${site:?}/bin" # packages' own programs
  pip install "${into[@]}" --no-index ${onnxruntime:+"$onnxruntime"} "$work"/edged-*.whl
  rm -rf "${site:?}/bin" "$site"/onnxruntime/{quantization,tools,transformers,datasets,backend} "$site"/numpy/{distutils,f2py}
  find "$site" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
  find "$site" -type f -exec chmod 644 {} +
}

put_program() { # put_program FILE: what /usr/bin/edged leads to
  cat >"$1" <<'PROGRAM'
#!/opt/edged/bin/python3 -I
import sys

from edged.__main__ import main

if __name__ == "__main__":  # the workers' fork server imports this file as well
    sys.exit(main())
PROGRAM
  chmod 755 "$1"
}

put_files() { # put_files PYTHON: all that is not below /opt; PYTHON has edged, and writes its manual
  local file
  mkdir -p "$tree/usr/bin" "$tree/etc/edged/conf.d"
  ln -s /opt/edged/bin/edged "$tree/usr/bin/edged"
  put 644 configs/installed.yaml etc/edged/edged.yaml
  put 644 systemd/edged.service usr/lib/systemd/system/edged.service
  put 644 systemd/edged-camera@.service usr/share/edged/units/edged-camera@.service
  put 644 systemd/edged.sysusers usr/lib/sysusers.d/edged.conf
  put 644 systemd/edged.tmpfiles usr/lib/tmpfiles.d/edged.conf
  put 644 examples/digits/digits_v1_int8.onnx usr/share/edged/digits.onnx
  put 644 examples/digits/scan.json usr/share/edged/scan.json
  for file in systemd/drop-ins/*.conf; do put 644 "$file" "usr/share/edged/drop-ins/${file##*/}"; done
  put 644 README.md usr/share/doc/edged/README.md
  put 644 configs/edged.yaml usr/share/doc/edged/examples/edged.yaml
  for file in docs/*.md; do put 644 "$file" "usr/share/doc/edged/docs/${file##*/}"; done
  "$1" scripts/deb/manual.py page >"$work/edged.1"
  "$1" scripts/deb/manual.py completion >"$work/completion"
  gzip -9n "$work/edged.1"
  put 644 "$work/edged.1.gz" usr/share/man/man1/edged.1.gz
  put 644 "$work/completion" usr/share/bash-completion/completions/edged
}
