#!/bin/bash
# report_chromium.sh PICTURE light|dark PNG: Chromium draws the picture into PNG, and tells which of its texts lie on one another
# or leave it, measured with the fonts that it draws.  No line: none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
height=$(sed -n 's/^<svg .* height="\([0-9]*\)".*/\1/p' "$1")
flags=(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$folder/profile" --window-size="1000,$height")
[ "$2" = light ] || flags+=(--blink-settings=preferredColorScheme=0)
{
    echo '<!DOCTYPE html><meta charset="utf-8"><style>body{margin:0}</style><body>'
    cat "$1"
    cat <<'SCRIPT'
<script>
const boxes = [...document.querySelectorAll("text")].map(text => [text.getBBox(), text.textContent]);
const picture = document.querySelector("svg").viewBox.baseVal;
const found = [];
boxes.forEach(([a, words], i) => {
    if (a.x < 0 || a.x + a.width > picture.width || a.y < 0 || a.y + a.height > picture.height) found.push("leaves: " + words);
    boxes.slice(i + 1).forEach(([b, others]) => {
        // A line's box is higher than its letters: 2 pixels of it are air.
        if (a.x < b.x + b.width && b.x < a.x + a.width && a.y + 2 < b.y + b.height && b.y + 2 < a.y + a.height)
            found.push("on one another: " + words + " | " + others);
    });
});
const colour = getComputedStyle(document.querySelector(".page")).fill;
document.body.textContent = "FOUND " + boxes.length + " texts, page " + colour + "\n" + found.join("\n") + "\nEND\n";
</script>
SCRIPT
} >"$folder/page.html"
chromium "${flags[@]}" --dump-dom "file://$folder/page.html" 2>/dev/null | sed -n '/FOUND/,/^END/p' | sed 's/.*FOUND/FOUND/' >"$folder/found"
grep -q '^FOUND [1-9]' "$folder/found"
case $2 in
light) grep -q 'page rgb(255, 255, 255)' "$folder/found" ;;
dark) grep -q 'page rgb(20, 25, 31)' "$folder/found" ;;
esac
sed '1d;/^$/d;/^END/d' "$folder/found"
chromium "${flags[@]}" --screenshot="$3" "file://$(realpath "$1")" >/dev/null 2>&1
