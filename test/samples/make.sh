#!/bin/sh
# Makes portrait.png and talk.mp3 from portrait.svg and talk.txt. Needs espeak-ng, and an ffmpeg with librsvg and libmp3lame.
set -eu
cd "$(dirname "$0")"
wav=$(mktemp --suffix=.wav)
trap 'rm -f "$wav"' EXIT
ffmpeg -nostdin -v error -y -i portrait.svg -frames:v 1 -pix_fmt rgb24 -compression_level 9 -pred mixed portrait.png
espeak-ng -v en-us+f3 -s 162 -p 42 -g 1 -f talk.txt -w "$wav"
ffmpeg -nostdin -v error -y -i "$wav" -af 'adelay=400,loudnorm=I=-18:TP=-2:LRA=11,aresample=44100,apad=pad_dur=0.6' \
  -ac 1 -c:a libmp3lame -b:a 64k -map_metadata -1 -fflags +bitexact talk.mp3
