;;; emacs_ghost.el --- Laws of ghost text, whoever keeps the connection  -*- lexical-binding: t; -*-

;;; Code:

(require 'emacs_session)

(defconst loop-body "    for item in items:\n        re|\n")

(ert-deftest typing-shows-what-the-server-suggests ()
  (test-in loop-body
    (test-type "s")
    (should (equal "ult.append(item)" (test-ghost)))
    (should (equal "    for item in items:\n        res\n" (buffer-string)))))

(ert-deftest ghost-text-has-a-face-of-its-own-and-leaves-the-cursor-before-it ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (let ((shown (overlay-get greencode--ghost 'after-string)))
      (should (equal "ult.append(item)" (substring-no-properties shown)))
      (should (eq 'greencode-ghost (get-text-property 0 'face shown)))
      (should (get-text-property 0 'cursor shown)))))

(ert-deftest tab-takes-what-is-shown-and-the-server-hears-of-it ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (test-type "TAB")
    (should (equal "    for item in items:\n        result.append(item)\n" (buffer-string)))
    (should (eolp))
    (should-not (greencode-ghost-text))
    (should (equal "greencode.accept" (plist-get (cdr (assoc "workspace/executeCommand" test-sent)) :command)))))

(ert-deftest tab-is-what-it-was-while-nothing-is-shown ()
  (test-in loop-body
    (should (eq 'indent-for-tab-command (key-binding (kbd "TAB"))))
    (should (eq 'forward-word (key-binding (kbd "M-f"))))
    (should (eq 'move-end-of-line (key-binding (kbd "C-e"))))
    (should (eq 'keyboard-quit (key-binding (kbd "C-g"))))
    (test-type "s")
    (test-ghost)
    (should (eq 'greencode-accept (key-binding (kbd "TAB"))))))

(ert-deftest tab-indents-where-nothing-is-suggested ()
  (test-in "for nothing in known:\n|zzz = 1\n"
    (test-type "TAB")
    (should (equal "for nothing in known:\n    zzz = 1\n" (buffer-string)))))

(ert-deftest one-undo-takes-an-accepted-suggestion-back ()
  (test-in loop-body
    (buffer-enable-undo)
    (test-type "s")
    (test-ghost)
    (test-type "TAB")
    (test-type "C-/")
    (should (equal "    for item in items:\n        res\n" (buffer-string)))))

(ert-deftest a-word-at-a-time-can-be-taken ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (cl-loop for (taken . left) in '(("ult" . ".append(item)") ("ult." . "append(item)") ("ult.append" . "(item)"))
             do (test-type "M-f")
             (should (equal (concat "        res" taken) (buffer-substring (line-beginning-position) (point))))
             (should (equal left (greencode-ghost-text))))
    (should (equal 10 (plist-get (cdr (assoc "textDocument/didPartiallyAcceptCompletion" test-sent))
                                 :acceptedLength)))))

(ert-deftest the-last-word-is-the-whole-suggestion ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (test-type "M-f M-f M-f M-f M-f M-f")
    (should (equal "        result.append(item)" (buffer-substring (line-beginning-position) (point))))
    (should (= 1 (test-count "workspace/executeCommand")))))

(ert-deftest a-line-at-a-time-can-be-taken ()
  (test-in "if|\n"
    (greencode--answered (greencode-buffer-server) '(:items [(:insertText " a:\n    b\nelse:")]))
    (test-type "C-e")
    (should (equal "if a:\n" (buffer-string)))
    (test-type "C-e")
    (should (equal "if a:\n    b\n" (buffer-string)))
    (should (equal "\nelse:" (greencode-ghost-text)))))

(defun test-answer-several ()
  "Let three items come for point."
  (greencode--answered (greencode-buffer-server)
                       '(:items [(:insertText " a:") (:insertText " b:") (:insertText " c:")])))

(ert-deftest several-suggestions-go-round-by-keys ()
  (test-in "if|\n"
    (test-answer-several)
    (cl-loop for (key . text) in '(("M-n" . " b:") ("M-n" . " c:") ("M-n" . " a:") ("M-p" . " c:") ("M-p" . " b:"))
             do (test-type key)
             (should (equal text (greencode-ghost-text))))
    (test-type "TAB")
    (should (equal "if b:\n" (buffer-string)))))

(ert-deftest the-key-asks-for-more-and-shows-the-next-one ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (let ((before (test-count "textDocument/inlineCompletion")))
      (test-type "M-n")
      (should (= (1+ before) (test-count "textDocument/inlineCompletion")))
      (should (equal '(:triggerKind 1) (plist-get (cdr (assoc "textDocument/inlineCompletion" test-sent)) :context)))
      (greencode--answered (greencode-buffer-server)
                           '(:items [(:insertText "ult.append(item)") (:insertText "ume()")]) 1)
      (should (equal "ume()" (greencode-ghost-text))))))

(ert-deftest the-keys-are-what-they-were-while-nothing-is-shown ()
  (test-in loop-body
    (should-not (eq 'greencode-next (key-binding (kbd "M-n"))))
    (should-not (eq 'greencode-previous (key-binding (kbd "M-p"))))))

(ert-deftest what-is-typed-along-shortens-the-ghost-text-without-a-request ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (let ((before (test-count "textDocument/inlineCompletion")))
      (test-type "u l t")
      (should (equal ".append(item)" (greencode-ghost-text)))
      (should (= before (test-count "textDocument/inlineCompletion"))))))

(ert-deftest what-is-typed-otherwise-hides-the-ghost-text ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (test-type "x")
    (should-not (greencode-ghost-text))
    (should (equal "    for item in items:\n        resx\n" (buffer-string)))))

(ert-deftest moving-point-hides-the-ghost-text-and-saving-keeps-it ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (test-type "C-x C-s")
    (should (greencode-ghost-text))
    (test-type "C-b")
    (should-not (greencode-ghost-text))))

(ert-deftest quitting-hides-the-ghost-text-until-the-next-edit ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (test-type "C-g")
    (should-not (greencode-ghost-text))
    (should (eq 'indent-for-tab-command (key-binding (kbd "TAB"))))
    (test-type "u")
    (should (equal "lt.append(item)" (test-ghost)))))

(ert-deftest an-answer-is-dropped-where-text-point-or-buffer-has-changed-since ()
  (dolist (change (list (lambda () (insert "x"))
                        (lambda () (goto-char (point-min)))
                        (lambda () (switch-to-buffer "*scratch*"))))
    (test-in loop-body
      (let ((buffer (current-buffer)) (before test-answers))
        (insert "s")
        (greencode-ask 2)
        (funcall change)                ; before the answer can be read
        (test-wait "the answer" (lambda () (> test-answers before)))
        (should-not (buffer-local-value 'greencode--ghost buffer))
        (switch-to-buffer buffer)))))

(ert-deftest a-request-is-cancelled-by-the-next-key ()
  (test-in "slow =|\n"
    (test-type "SPC")
    (test-wait "the request" (lambda () (= 1 (test-count "textDocument/inlineCompletion"))))
    (should greencode--cancel)
    (test-type "C-b")
    (should-not greencode--cancel))
  (test-in loop-body                    ; the cancelled one does not hold the model up
    (test-type "s")
    (should (equal "ult.append(item)" (test-ghost)))))

(ert-deftest columns-are-counted-as-the-server-counts-them ()
  (test-in "smile = '😀'; na|\n"
    (test-type "m")
    (should (equal "e = smile" (test-ghost)))
    (test-type "TAB")
    (should (equal "smile = '😀'; name = smile\n" (buffer-string)))))

(ert-deftest text-after-point-stays-and-is-not-shown-twice ()
  (test-in "call(|)\n"
    (cl-loop for (text end shown) in '(("a, b)" 6 "a, b") ("a, b" 5 "a, b") ("other" 6 nil))
             do (greencode--answered
                 (greencode-buffer-server)
                 `(:items [(:insertText ,text
                            :range (:start (:line 0 :character 5) :end (:line 0 :character ,end)))]))
             (should (equal shown (greencode-ghost-text)))
             (greencode-ghost-clear))))

(ert-deftest an-answer-without-items-shows-nothing ()
  (test-in loop-body
    (dolist (answer '(nil [] (:items []) (:items [(:insertText "")])))
      (greencode--answered (greencode-buffer-server) answer)
      (should-not (greencode-ghost-text)))))

(ert-deftest a-preference-set-in-emacs-is-obeyed-at-once ()
  (test-in loop-body
    (unwind-protect
        (cl-loop for (preference . number) in '(("energy" . 0.0) ("accuracy" . 1.0) (0.25 . 0.25) ("balanced" . 0.5))
                 do (setq greencode-preference preference)
                 (test-wait (format "preference %s" preference)
                            (lambda () (equal number (plist-get (greencode-status) :preference)))))
      (setq greencode-preference "balanced"))))

(ert-deftest the-mode-line-tells-what-was-saved-and-the-tooltip-what-was-spent ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (test-wait "the cost" (lambda () (plist-get (greencode-status) :last)))
    (let ((line (greencode-mode-line)))
      (should (string-match-p "\\` GreenCode ~-?[0-9.]+ k?J saved\\'" line))
      (should (string-match-p "last: 10\\.0+ J (modelled), [0-9.]+ layers of 4" (get-text-property 1 'help-echo line)))
      (should (string-match-p "today: [0-9.]+ J used" (get-text-property 1 'help-echo line))))))

(ert-deftest what-was-accepted-is-counted ()
  (test-in loop-body
    (let* ((accepted (lambda () (or (plist-get (plist-get (greencode-status) :today) :accepted) 0)))
           (before (funcall accepted)))
      (test-type "s")
      (test-ghost)
      (test-type "TAB")
      (test-wait "the count" (lambda () (> (funcall accepted) before))))))

(ert-deftest a-list-of-completions-and-ghost-text-are-not-shown-together ()
  (test-in loop-body
    (test-type "s")
    (test-ghost)
    (let ((completion-in-region-mode-predicate #'always))
      (completion-in-region-mode 1)
      (should-not (greencode-ghost-text))
      (should-not (eq 'greencode-accept (key-binding (kbd "TAB"))))
      (completion-in-region-mode -1))
    (should (equal "ult.append(item)" (test-ghost)))))

(provide 'emacs_ghost)
;;; emacs_ghost.el ends here
