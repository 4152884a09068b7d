;;; emacs_own.el --- Laws of the package's own connection  -*- lexical-binding: t; -*-

;;; Code:

(require 'emacs_session)
(require 'eglot nil t)

(defmacro test-with-command (command &rest body)
  "Run BODY where COMMAND starts the server, and put things back."
  (declare (indent 1))
  `(unwind-protect
       (progn (greencode-shutdown)
              (setq test-messages nil greencode-command ,command greencode-trouble nil greencode--ends nil)
              ,@body)
     (set-buffer-modified-p nil)
     (kill-buffer)
     (greencode-shutdown)
     (setq greencode-command test-fake greencode-trouble nil greencode--ends nil)))

(defun test-process ()
  "Return the server's process."
  (jsonrpc--process greencode--connection))

(ert-deftest a-missing-server-is-reported-once-with-what-to-do ()
  (test-with-command '("greencode-lsp-that-is-nowhere" "--stdio")
    (test-open "re|\n")
    (greencode-mode)
    (test-wait "the message" (lambda () (= 1 (test-said "is not installed: install greencode-lsp with pip"))))
    (test-type "s u")
    (test-wait "the request's moment" (lambda () (not (memq greencode--timer timer-list))))
    (should (= 1 (test-said "is not installed")))
    (should-not greencode--connection)
    (should (equal " GreenCode off" (substring-no-properties (greencode-mode-line))))
    (should-error (greencode-pause) :type 'user-error)))

(ert-deftest a-server-that-was-installed-meanwhile-is-started-by-a-restart ()
  (test-with-command '("greencode-lsp-that-is-nowhere" "--stdio")
    (test-open "    for item in items:\n        re|\n")
    (greencode-mode)
    (test-wait "the message" (lambda () (= 1 (test-said "is not installed"))))
    (setq greencode-command test-fake)
    (greencode-restart)
    (test-wait "the server" #'test-ready-p)
    (test-type "s")
    (should (equal "ult.append(item)" (test-ghost)))))

(ert-deftest a-server-that-ends-at-its-start-is-reported-once-with-its-log-and-not-started-again ()
  (test-with-command (list test-python "-c" "import sys; sys.exit('no torch here')")
    (test-open "re|\n")
    (greencode-mode)
    (test-wait "the message" (lambda () (= 1 (test-said "ended at its start: see M-x greencode-show-log"))))
    (let ((connection greencode--connection))
      (test-type "s u")
      (test-wait "the request's moment" (lambda () (not (memq greencode--timer timer-list))))
      (should (eq connection greencode--connection))
      (should (= 1 (test-said "ended at its start")))
      (save-window-excursion
        (greencode-show-log)
        (should (string-match-p "no torch here" (buffer-string)))))))

(ert-deftest a-killed-server-is-started-again-by-the-next-edit ()
  (test-in "    for item in items:\n        re|\n"
    (let ((killed (test-process)))
      (signal-process killed 'KILL)
      (test-wait "its end" (lambda () (= 1 (test-said "the next edit starts it again"))))
      (test-type "s")
      (should (equal "ult.append(item)" (test-ghost)))
      (should-not (eq killed (test-process))))))

(ert-deftest a-server-that-keeps-ending-is-given-up ()
  (test-with-command test-fake
    (test-open "re|\n")
    (greencode-mode)
    (dotimes (_ 4)
      (greencode-buffer-server)
      (test-wait "the server" #'test-ready-p)
      (let ((process (test-process)))
        (signal-process process 'KILL)
        (test-wait "its end" (lambda () (null (greencode--running-server))))))
    (test-wait "the last word" (lambda () (= 1 (test-said "has ended four times in three minutes"))))
    (should-not (greencode-buffer-server))))

(ert-deftest a-server-that-is-no-longer-wanted-ends-by-itself ()
  (test-in "re|\n"
    (let ((process (test-process)) (greencode-patience test-deadline))
      (greencode-shutdown)
      (should (eq 'exit (process-status process)))
      (should (= 0 (process-exit-status process)))
      (should (= 0 (test-said "starts it again"))))))

(ert-deftest read-only-remote-very-large-and-fileless-buffers-are-left-alone ()
  (cl-loop for (reason . prepare)
           in (list (cons "read-only" (lambda () (setq buffer-read-only t)))
                    (cons "remote" (lambda () (setq buffer-file-name "/ssh:nowhere:/sample.py")))
                    (cons "larger than 5 MB" (lambda () (insert (make-string 5000001 ?x))))
                    (cons "visits no file" (lambda () (setq buffer-file-name nil))))
           do (test-with-command test-fake
                (test-open "re|\n")
                (funcall prepare)
                (call-interactively #'greencode-mode)
                (should-not greencode-mode)
                (should (= 1 (test-said (concat "leaves this buffer alone: .*" reason))))
                (should-not greencode--connection)
                (setq buffer-file-name nil))))

(ert-deftest a-buffer-that-becomes-read-only-is-left-alone ()
  (test-in "re|\n"
    (setq buffer-read-only t)
    (should (run-hook-with-args-until-success 'greencode-inhibit-functions))))

(defun test-turned-to ()
  "Do as Emacs does where the user turns to the current buffer; return how often the server was told so far."
  (should (memq 'greencode--focused window-buffer-change-functions))
  (should (memq 'greencode--focused window-selection-change-functions))
  (run-hook-with-args 'window-buffer-change-functions (selected-window))
  (test-count "textDocument/didFocus"))

(ert-deftest the-server-hears-which-buffer-the-user-turns-to ()
  (test-in "    for it|"
    (test-type "e")
    (test-ghost)
    (should (= 1 (test-turned-to)))
    (should (equal `(:textDocument (:uri ,(greencode-path-to-uri buffer-file-name)))
                   (cdr (assoc "textDocument/didFocus" test-sent))))))

(ert-deftest a-buffer-that-the-server-does-not-know-is-not-sent-for-being-looked-at ()
  (test-in "a|"
    (should (= 0 (test-turned-to)))
    (should (= 0 (test-count "textDocument/didOpen")))))

(ert-deftest the-server-does-not-hear-of-a-buffer-that-is-left-alone ()
  (test-in "    for it|"
    (test-type "e")
    (test-ghost)
    (setq buffer-read-only t)
    (should (= 0 (test-turned-to)))
    (setq buffer-read-only nil)))

(ert-deftest bytes-that-are-no-text-do-not-stop-the-server ()
  (test-in "    for item in items:\n        re|\n"
    (save-excursion (goto-char (point-min)) (insert "# " (unibyte-string 255) "\n"))
    (test-type "s")
    (should (equal "ult.append(item)" (test-ghost)))))

(ert-deftest a-renamed-file-is-another-document ()
  (test-in "    for item in items:\n        re|\n"
    (test-type "s")
    (test-ghost)
    (let ((inhibit-message t))
      (set-visited-file-name (expand-file-name "renamed.py" test-folder)))
    (test-type "DEL s")
    (should (equal "ult.append(item)" (test-ghost)))
    (should (= 1 (test-count "textDocument/didClose")))
    (should (string-suffix-p "renamed.py" (plist-get (greencode-document greencode--connection) :uri)))))

(ert-deftest a-directory-s-own-preference-is-sent-for-its-files ()
  (test-in "re|\n"
    (setq-local greencode-preference "energy")
    (let ((ask (lambda (uri)
                 (gethash "preference"
                          (elt (greencode--requested greencode--connection 'workspace/configuration
                                                     `(:items [(:section "greencode" :scopeUri ,uri)]))
                               0)))))
      (should (equal "energy" (funcall ask (greencode-path-to-uri test-folder))))
      (should (equal "energy" (funcall ask (greencode-path-to-uri buffer-file-name))))
      (should-not (equal "energy" (funcall ask nil)))
      (should-not (equal "energy" (funcall ask "file:///elsewhere"))))))

(ert-deftest what-was-typed-before-the-server-was-ready-is-answered ()
  (test-with-command test-fake
    (test-open "    for item in items:\n        re|\n")
    (greencode-mode)
    (test-type "s")
    (should (equal "ult.append(item)" (test-ghost)))))

(ert-deftest a-session-s-preference-is-obeyed ()
  (test-in "re|\n"
    (test-needs "greencode.setPreference")
    (greencode-set-preference "energy")
    (test-wait "the preference" (lambda () (equal 0.0 (plist-get (greencode-status) :preference))))
    (greencode-set-preference 0.5)
    (test-wait "the preference" (lambda () (equal 0.5 (plist-get (greencode-status) :preference))))))

(ert-deftest joules-have-a-fitting-unit ()
  (cl-loop for (energy-j . shown) in '((0 . "0.00 J") (-0.001 . "0.00 J") (0.25 . "0.25 J") (-0.25 . "-0.25 J")
                                       (12.34 . "12.3 J") (381.2 . "381 J") (12345 . "12.3 kJ"))
           do (should (equal shown (greencode-joules energy-j)))))

(ert-deftest each-preference-is-offered-with-what-it-costs ()
  (let ((choice '(:name "energy" :preference 0.0 :cost_ratio 0.66 :agreement 0.88)))
    (should (equal "  66 % of full depth's cost, keeps 88 % of its tokens" (greencode--cost choice)))
    (should (equal "" (greencode--cost nil)))))

(ert-deftest paused-means-no-ghost-text-until-resumed ()
  (test-in "    for item in items:\n        re|\n"
    (test-needs "greencode.pause")
    (greencode-pause)
    (test-wait "the pause" (lambda () (equal "paused" (plist-get (greencode-status) :state))))
    (should (equal " GreenCode paused" (substring-no-properties (greencode-mode-line))))
    (let ((before test-answers))
      (test-type "s")
      (test-wait "the answer" (lambda () (> test-answers before)))
      (should-not (greencode-ghost-text)))
    (greencode-resume)
    (test-wait "the end of the pause" #'test-ready-p)
    (test-type "u")
    (should (equal "lt.append(item)" (test-ghost)))))

(ert-deftest the-report-is-text-or-a-page ()
  (test-in "    for item in items:\n        re|\n"
    (test-needs "greencode.report")
    (test-type "s")
    (test-ghost)
    (greencode-report)
    (test-wait "the report" (lambda () (get-buffer "*greencode report*")))
    (with-current-buffer "*greencode report*"
      (should (string-match-p "energy" (buffer-string))))
    (let (page)
      (cl-letf (((symbol-function 'browse-url) (lambda (url &rest _) (setq page url))))
        (greencode-report "all" t)
        (test-wait "the page" (lambda () page)))
      (with-temp-buffer
        (insert-file-contents (greencode-uri-to-path page))
        (should (search-forward "<html" nil t))))))

(ert-deftest the-doctor-looks-at-emacs-and-asks-the-program ()
  (test-with-command test-real
    (test-open "re|\n")
    (save-window-excursion (greencode-doctor))
    (test-wait "the program's end" (lambda () (not (get-process "greencode-doctor"))))
    (with-current-buffer "*greencode doctor*"
      (should (string-match-p "server: not started\nthis buffer: off, M-x greencode-mode turns it on\n\n."
                              (buffer-string))))))

(ert-deftest another-server-under-eglot-stays-what-it-is ()
  (unless (featurep 'eglot) (test-skip "there is no Eglot"))
  (let ((eglot-server-programs (list (cons 'python-mode test-fake))) (eglot-sync-connect 30))
    (test-in "    for item in items:\n        re|\n"
      (apply #'eglot (eglot--guess-contact))
      (should (eglot-managed-p))
      (should (cl-typep (greencode-buffer-server) 'greencode-connection))
      (test-type "s")
      (should (equal "ult.append(item)" (test-ghost)))
      (eglot-shutdown (eglot-current-server)))))

(ert-deftest company-and-ghost-text-are-not-shown-together ()
  (unless (require 'company nil t) (test-skip "there is no company"))
  (defvar company-idle-delay)
  (test-in "    for item in items:\n        re|\n"
    (setq-local company-backends '((lambda (command &rest _)
                                     (pcase command
                                       ('prefix "res") ('candidates '("result" "resume")))))
                company-frontends nil company-idle-delay nil)
    (company-mode)
    (test-type "s")
    (test-ghost)
    (company-manual-begin)
    (should (bound-and-true-p company-candidates))
    (should-not (greencode-ghost-text))
    (should-not (eq 'greencode-accept (key-binding (kbd "TAB"))))
    (company-abort)
    (should (equal "ult.append(item)" (test-ghost)))
    (test-type "TAB")
    (should (equal "        result.append(item)" (buffer-substring (line-beginning-position) (point))))))

(ert-deftest the-bundled-model-suggests-and-tells-what-it-cost ()
  (test-with-command test-real
    (test-open "class Reader:\n    def __init__(self, name):\n        self.name = |\n")
    (greencode-mode)
    (test-wait "the model" #'test-ready-p)
    (test-type "DEL SPC")
    (let ((ghost (test-ghost)))
      (test-type "TAB")
      (should (string-suffix-p (concat "self.name = " ghost)
                               (buffer-substring (line-beginning-position) (line-end-position)))))
    (test-wait "the cost" (lambda () (plist-get (plist-get (greencode-status) :last) :energy_j)))))

;;;; A project that was prepared against its visitor; the session obeys every local variable (see emacs_session)

(defmacro test-in-hostile (&rest body)
  "Run BODY in a file of a project whose .dir-locals.el sets what it may not choose."
  `(let ((folder (expand-file-name "hostile/" test-folder)))
     (make-directory folder t)
     (write-region
      (prin1-to-string
       `((nil . ((greencode-command . ("/bin/sh" "-c" ,(format "touch %sran" folder)))
                 (greencode-model . "/attacker") (greencode-device . "cuda") (greencode-precision . "float32")
                 (eglot-workspace-configuration . (:greencode (:model "/attacker" :preference "energy")))
                 (exec-path . (,folder)) (greencode-preference . "energy")))))
      nil (expand-file-name ".dir-locals.el" folder) nil 'silent)
     (test-with-command test-fake
       (test-open "re|\n" "hostile/sample.py")
       (should (equal "/attacker" greencode-model)) ; it was obeyed, and yet:
       (greencode-mode)
       (test-wait "the server" #'test-ready-p)
       ,@body)))

(ert-deftest a-project-chooses-no-program ()
  (test-in-hostile
   (should (equal test-fake (process-command (test-process))))
   (should-not (file-exists-p (expand-file-name "ran" folder)))))

(ert-deftest a-project-chooses-no-model-and-no-device ()
  (test-in-hostile
   (let ((section (greencode-section-of (greencode-path-to-uri buffer-file-name))))
     (should (equal '("preference" "energy")
                    (cl-loop for key in '("model" "device" "precision" "preference")
                             when (gethash key section) append (list key (gethash key section))))))))

(ert-deftest the-server-starts-in-a-folder-of-its-own ()
  (let ((here (expand-file-name "here" test-folder)))
    (test-with-command `("/bin/sh" "-c" ,(format "pwd > %s; exec \"$@\"" here) "sh" ,@test-fake)
      (test-open "re|\n")
      (greencode-mode)
      (test-wait "the server" #'test-ready-p)
      (should (equal (file-truename (greencode-own-folder))
                     (with-temp-buffer
                       (insert-file-contents here)
                       (file-name-as-directory (file-truename (string-trim (buffer-string))))))))))

(provide 'emacs_own)
;;; emacs_own.el ends here
